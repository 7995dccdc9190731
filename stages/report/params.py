"""Parameters of `report`: which tasks the table shows, and how wide its intervals are.

Standard library only: the graph is read without importing torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from stages._contract.params import Image  # noqa: TC001 - the loader reads the types

MODELS = ("base", "sft", "grpo")  # in the order of the recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportParams:
    """What `report` reads from params.yaml; the comments there give sources and roles."""

    image: Image
    recipe: str
    tasks: list[str]
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
        if not 0 < self.confidence < 1:
            raise ValueError(
                f"report.confidence must be in (0, 1), not {self.confidence}: 0.95 gives 95% "
                f"intervals"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportInputs:
    """The paths that `report` reads, relative to the repository root."""

    evaluations: Path
    problems: Path
    sft_log: Path
    grpo_log: Path


def inputs(params: ReportParams, **cell: str) -> ReportInputs:
    """Returns the input paths."""
    del params, cell
    return ReportInputs(
        evaluations=Path("artifacts/evaluate"),
        problems=Path("artifacts/prompts/evaluate"),
        sft_log=Path("artifacts/sft/log.jsonl"),
        grpo_log=Path("artifacts/grpo/log.jsonl"),
    )


def out(**cell: str) -> Path:
    """Returns the folder of the table and the curves, relative to the repository root."""
    del cell
    return Path("metrics/report")


def metrics(**cell: str) -> dict[str, Path]:
    """Returns the metrics files by name, relative to the repository root."""
    del cell
    names = ["paired", *(f"evaluate/{model}" for model in MODELS)]
    return {name: Path("metrics", f"{name}.json") for name in names}
