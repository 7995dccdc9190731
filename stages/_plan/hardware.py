"""Facts about GPUs, and the efficiencies that are assumed of them."""

from __future__ import annotations

from dataclasses import dataclass

GB = 1e9  # bytes, as vendors count


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU and its share of a node's network."""

    name: str
    peak_flops: float  # FLOP/s, bfloat16, dense
    memory_bytes: float
    bandwidth: float  # bytes/s of its memory
    network: float  # bytes/s to other nodes, per GPU


# NVIDIA H100 Tensor Core GPU data sheet, SXM5: 1,979 TFLOP/s of bfloat16 with sparsity and thus 989
# dense, 80 GB, 3.35 TB/s. Network: one adapter of 400 Gbit/s per GPU, as in a DGX H100.
H100 = Gpu(
    name="H100 SXM",
    peak_flops=989e12,
    memory_bytes=80 * GB,
    bandwidth=3.35e12,
    network=50 * GB,
)
GPUS_PER_NODE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Efficiency:
    """What is assumed of software; the published figures (published.py) say how well it fits.

    mfu: model FLOPs of training by the peak's, recomputation of activations not counted.
    forward_mfu: the same of passes without gradients and of reading prompts.
    bandwidth_use: of the memory's bandwidth, while decoding.
    network_use: of the network's, in exchanges between experts.
    step_overhead_s: of a decoding step, for scheduling, sampling and launching kernels.
    collective_s: latency of one all-reduce among the GPUs of a tensor-parallel group.
    workspace_bytes: of a process, for CUDA, NCCL, kernels' buffers and fragmentation.
    """

    mfu: float = 0.35
    forward_mfu: float = 0.45
    bandwidth_use: float = 0.7
    network_use: float = 1.0
    step_overhead_s: float = 0.005
    collective_s: float = 30e-6
    workspace_bytes: float = 5 * GB


ASSUMED = Efficiency()
