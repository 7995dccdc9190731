"""Parameters of `report`: tasks, models and pairs of the table, its intervals, logs of the curves.

Standard library only: the graph is read without importing torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages._contract.params import Image, check_artifact
from stages._contract.places import below

if TYPE_CHECKING:
    from stages._contract.places import Cell


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportParams:
    """What `report` reads from params.yaml; the comments there give sources and roles."""

    image: Image
    recipe: str
    tasks: list[str]
    models: dict[str, str]
    pairs: list[list[str]]
    problems: str
    logs: dict[str, str]
    confidence: float

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", self.recipe):
            raise ValueError(
                f"report.recipe must consist of a-z, 0-9, '.' and '-', not {self.recipe!r}: "
                f"slurm/resources.yaml has needs under that name"
            )
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(
                f"report.tasks must name at least one task, and each once, not {self.tasks}: they "
                f"are the sources of prompts.sources with num_evaluate > 0"
            )
        for key, paths in (("models", self.models), ("logs", self.logs)):
            for name, path in paths.items():
                check_artifact(f"report.{key}.{name}", path, "name what a stage writes")
        check_artifact("report.problems", self.problems, "artifacts/prompts/evaluate")
        self._check_pairs()
        if not 0 < self.confidence < 1:
            raise ValueError(
                f"report.confidence must be in (0, 1), not {self.confidence}: 0.95 gives 95% "
                f"intervals"
            )

    def _check_pairs(self) -> None:
        if not self.models:
            raise ValueError("report.models names no model: give each a folder of evaluations")
        for pair in self.pairs:
            if len(pair) != 2 or len(set(pair)) < 2 or not set(pair) <= self.models.keys():  # noqa: PLR2004
                raise ValueError(
                    f"report.pairs must hold pairs of two of {', '.join(self.models)}, not {pair}: "
                    f"the second is compared with the first"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportInputs:
    """The paths that `report` reads, relative to the repository root."""

    evaluations: list[Path]
    problems: Path
    logs: list[Path]


def inputs(params: ReportParams, cell: Cell) -> ReportInputs:
    """Returns the input paths."""
    del cell
    return ReportInputs(
        evaluations=[Path(folder) for folder in params.models.values()],
        problems=Path(params.problems),
        logs=[Path(log) for log in params.logs.values()],
    )


def out(cell: Cell) -> Path:
    """Returns the folder of the table and the curves, relative to the repository root."""
    return below("metrics", cell) / "report"


def metrics(params: ReportParams, cell: Cell) -> dict[str, Path]:
    """Returns the metrics files by name, relative to the repository root."""
    names = ["paired", *(f"evaluate/{model}" for model in params.models)]
    return {name: below("metrics", cell) / f"{name}.json" for name in names}
