"""Other CPUs, emulated: QEMU computes each instruction exactly, and reports their vendor."""
