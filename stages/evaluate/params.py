"""Parameters of `evaluate`: how the engine runs. What is measured is in the task's YAML file.

Standard library only: the graph is read without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages._contract.determinism import CpuIsa  # noqa: TC001 - the loader reads the types
from stages._contract.params import Image, check_artifact
from stages._contract.places import below
from stages.generate.engine_params import EngineParams  # noqa: TC001 - the loader reads the types

if TYPE_CHECKING:
    from stages._contract.places import Cell

_MODELS = ("base", "sft", "grpo")  # of the core graph; a track names its own
_TASKS = Path("stages/evaluate/tasks")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateParams:
    """What `evaluate` reads from params.yaml; the comments there give sources and roles."""

    image: Image
    seed: int
    num_threads: int
    cpu_isa: CpuIsa
    problems: str
    shard_size: int
    engine: EngineParams

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        check_artifact("evaluate.problems", self.problems, "artifacts/prompts/evaluate")
        if self.num_threads < 1:
            raise ValueError(f"evaluate.num_threads must be >= 1, not {self.num_threads}")
        if self.shard_size < 1:
            raise ValueError(
                f"evaluate.shard_size must be >= 1, not {self.shard_size}: a shard holds the "
                f"responses to that many problems"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateInputs:
    """The paths that one cell (model, task) reads, relative to the repository root."""

    model: Path
    task: Path
    problems: Path


def inputs(params: EvaluateParams, cell: Cell) -> EvaluateInputs:
    """Returns the input paths of the cell.

    Raises:
        ValueError: the cell's model or task is missing or unknown.
    """
    model, task = _names(cell)
    return EvaluateInputs(
        model=below("artifacts", cell) / model,
        task=_TASKS / f"{task}.yaml",
        problems=Path(params.problems, f"{task}.jsonl"),
    )


def out(cell: Cell) -> Path:
    """Returns the folder of the cell's results, relative to the repository root."""
    model, task = _names(cell)
    return below("artifacts", cell) / "evaluate" / model / task


def metrics(params: EvaluateParams, cell: Cell) -> dict[str, Path]:
    """Returns no metrics file: the cell's results.json is an output, which `report` collects."""
    del params, cell
    return {}


def _names(cell: Cell) -> tuple[str, str]:
    model, task = cell.get("model"), cell.get("task")
    if model is None and "track" in cell:
        raise ValueError(
            f"--model is missing: give one that tracks/{cell['track']}/dvc.yaml evaluates"
        )
    if model is None or ("track" not in cell and model not in _MODELS):
        raise ValueError(f"--model must be one of {', '.join(_MODELS)}, not {model!r}")
    tasks = sorted(path.stem for path in Path(__file__).parent.joinpath("tasks").glob("*.yaml"))
    if task not in tasks:
        raise ValueError(
            f"--task must be one of {', '.join(tasks)}, not {task!r}: each is a file in {_TASKS}"
        )
    return model, task
