"""The cells of the matrix, and the bounds of the parameters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stages.evaluate.params import EvaluateInputs, EvaluateParams, inputs, metrics, out
from stages.generate.engine_params import EngineParams

ENGINE = EngineParams(
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
PARAMS = EvaluateParams(
    image="cpu", seed=0, num_threads=2, cpu_isa="avx2", shard_size=8, engine=ENGINE
)


def test_paths_of_a_cell() -> None:
    """A cell reads one model, one task's file and that task's problems."""
    assert inputs(PARAMS, model="grpo", task="larger_sums") == EvaluateInputs(
        model=Path("artifacts/grpo"),
        task=Path("stages/evaluate/tasks/larger_sums.yaml"),
        problems=Path("artifacts/prompts/evaluate/larger_sums.jsonl"),
    )
    assert inputs(PARAMS, model="base", task="arithmetic").model == Path("artifacts/base")
    assert out(model="sft", task="arithmetic") == Path("artifacts/evaluate/sft/arithmetic")
    assert metrics(model="sft", task="arithmetic") == {}


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"task": "arithmetic"}, "--model must be one of base, sft, grpo, not None"),
        ({"model": "gpt", "task": "arithmetic"}, "--model must be one of .*, not 'gpt'"),
        ({"model": "sft"}, "--task must be one of .*arithmetic.*, not None"),
        ({"model": "sft", "task": "../x"}, "--task must be one of .*, not '../x'"),
    ],
)
def test_unknown_cells(cell: dict[str, str], message: str) -> None:
    """A missing or unknown model or task names what there is."""
    with pytest.raises(ValueError, match=message):
        inputs(PARAMS, **cell)


@pytest.mark.parametrize("key", ["num_threads", "shard_size"])
def test_zero_is_refused(key: str) -> None:
    """Zero threads compute nothing, and an empty shard asks nothing."""
    with pytest.raises(ValueError, match=rf"evaluate.{key} must be >= 1, not 0"):
        replace(PARAMS, **{key: 0})  # type: ignore[arg-type]
