"""The cells of the matrix, and the bounds of the parameters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stages.evaluate.params import EvaluateInputs, EvaluateParams, inputs, metrics, out
from tests.engine import CPU

PARAMS = EvaluateParams(
    image="cpu",
    seed=0,
    num_threads=2,
    cpu_isa="avx2",
    problems="artifacts/prompts/evaluate",
    shard_size=8,
    engine=CPU,
)


def test_paths_of_a_cell() -> None:
    """A cell reads one model, one task's file and that task's problems."""
    assert inputs(PARAMS, {"model": "grpo", "task": "larger_sums"}) == EvaluateInputs(
        model=Path("artifacts/grpo"),
        task=Path("stages/evaluate/tasks/larger_sums.yaml"),
        problems=Path("artifacts/prompts/evaluate/larger_sums.jsonl"),
    )
    cell = {"model": "base", "task": "arithmetic"}
    assert inputs(PARAMS, cell).model == Path("artifacts/base")
    assert out(cell) == Path("artifacts/evaluate/base/arithmetic")
    assert metrics(PARAMS, cell) == {}


def test_paths_of_a_track_s_cell() -> None:
    """A track's models and results lie below its own folder; the problems are the core's."""
    cell = {"track": "r1", "model": "cold_start", "task": "arithmetic"}
    found = inputs(PARAMS, cell)
    assert found.model == Path("artifacts/r1/cold_start")
    assert found.problems == Path("artifacts/prompts/evaluate/arithmetic.jsonl")
    assert out(cell) == Path("artifacts/r1/evaluate/cold_start/arithmetic")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"task": "arithmetic"}, "--model must be one of base, sft, grpo, not None"),
        ({"track": "r1", "task": "arithmetic"}, "--model is missing: .* tracks/r1/dvc.yaml"),
        ({"model": "gpt", "task": "arithmetic"}, "--model must be one of .*, not 'gpt'"),
        ({"model": "sft"}, "--task must be one of .*arithmetic.*, not None"),
        ({"model": "sft", "task": "../x"}, "--task must be one of .*, not '../x'"),
    ],
)
def test_unknown_cells(cell: dict[str, str], message: str) -> None:
    """A missing or unknown model or task names what there is."""
    with pytest.raises(ValueError, match=message):
        inputs(PARAMS, cell)


@pytest.mark.parametrize("key", ["num_threads", "shard_size"])
def test_zero_is_refused(key: str) -> None:
    """Zero threads compute nothing, and an empty shard asks nothing."""
    with pytest.raises(ValueError, match=rf"evaluate.{key} must be >= 1, not 0"):
        replace(PARAMS, **{key: 0})  # type: ignore[arg-type]
