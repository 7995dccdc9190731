"""What is exported for others' tools, read by those tools."""
