"""What vLLM is started with, as a file: a change of it shows in review.

To renew the file after a change that is meant:
`python -m tests.golden.evaluate.test_evaluate_golden`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


GOLDEN = Path(__file__).parent / "engine_kwargs.json"


def resolve() -> dict[str, Any]:
    """Returns vLLM's arguments on a CPU and on GPUs."""
    folder = Path("artifacts/sft")
    return {"cpu": engine_kwargs(CPU, folder), "gpu": engine_kwargs(GPU, folder)}


def test_engine_kwargs() -> None:
    """Null options are left to vLLM, all others arrive under their own names."""
    assert resolve() == json.loads(GOLDEN.read_text(encoding="utf-8"))


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(resolve(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
