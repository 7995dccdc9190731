"""What vLLM is started with, as a file: a change of it shows in review."""

from __future__ import annotations

import json
from pathlib import Path

from stages.generate.engine import engine_kwargs
from stages.generate.engine_params import EngineParams
from tests.engine import CPU

GPU = EngineParams(
    batch_invariant=False,
    dtype="bfloat16",
    max_model_len=32768,
    max_num_seqs=256,
    max_num_batched_tokens=None,
    gpu_memory_utilization=0.9,
    kv_cache_memory_bytes=None,
    block_size=None,
    enforce_eager=False,
    enable_chunked_prefill=True,
    enable_prefix_caching=True,
    tensor_parallel_size=8,
)


def test_engine_kwargs() -> None:
    """Null options are left to vLLM, all others arrive under their own names."""
    expected = json.loads((Path(__file__).parent / "engine_kwargs.json").read_text())
    folder = Path("artifacts/sft")
    assert {"cpu": engine_kwargs(CPU, folder), "gpu": engine_kwargs(GPU, folder)} == expected
