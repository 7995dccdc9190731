"""Options of the vLLM engine, under vLLM's own names; `generate` and `evaluate` each have a set.

Standard library only: the graph is read without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_BLOCK_MULTIPLE = 32  # tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineParams:
    """What vLLM's `LLM` takes; null leaves a choice to vLLM. Lengths and sizes are in tokens.

    `batch_invariant` is VLLM_BATCH_INVARIANT, which vLLM reads from the environment instead.
    """

    batch_invariant: bool
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int | None
    gpu_memory_utilization: float | None
    kv_cache_memory_bytes: int | None
    block_size: int | None
    enforce_eager: bool
    enable_chunked_prefill: bool
    enable_prefix_caching: bool
    tensor_parallel_size: int

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the option; the loader knows the stage."""
        for key in ("max_model_len", "max_num_seqs", "tensor_parallel_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be >= 1, not {getattr(self, key)}")
        fraction = self.gpu_memory_utilization
        if fraction is not None and not 0 < fraction <= 1:
            raise ValueError(
                f"gpu_memory_utilization must be in (0, 1], not {fraction}: a fraction of "
                f"the device's memory, on CPU of the machine's"
            )
        if self.kv_cache_memory_bytes is not None and self.kv_cache_memory_bytes < 1:
            raise ValueError(
                f"kv_cache_memory_bytes must be >= 1, not {self.kv_cache_memory_bytes}; "
                f"null derives it from gpu_memory_utilization"
            )
        size = self.block_size
        if size is not None and (size < 1 or size % _BLOCK_MULTIPLE):
            raise ValueError(
                f"block_size must be a multiple of {_BLOCK_MULTIPLE}, not {size}: the CPU's "
                f"attention wants it; null takes vLLM's default"
            )
        self._check_prefill()

    def _check_prefill(self) -> None:
        # Without chunks, a prompt must fit into one step; vLLM's default need not be large enough.
        if self.enable_chunked_prefill:
            return
        num = self.max_num_batched_tokens
        if num is None or num < self.max_model_len:
            raise ValueError(
                f"max_num_batched_tokens must be >= max_model_len ({self.max_model_len}), "
                f"not {num}: with enable_chunked_prefill false a prompt is read in one step"
            )
