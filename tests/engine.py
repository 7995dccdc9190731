"""Options of vLLM, as a machine without GPUs has them."""

from __future__ import annotations

from stages.generate.engine_params import EngineParams

CPU = EngineParams(
    batch_invariant=False,
    dtype="float32",
    max_model_len=1024,
    max_num_seqs=128,
    max_num_batched_tokens=4096,
    gpu_memory_utilization=None,
    kv_cache_memory_bytes=536870912,
    block_size=32,
    enforce_eager=True,
    enable_chunked_prefill=False,
    enable_prefix_caching=True,
    tensor_parallel_size=1,
)
