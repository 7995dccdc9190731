"""Parameters of `filter`: which verified traces become training data.

Standard library only: the graph is read without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stages._contract.params import Image, check_artifact

if TYPE_CHECKING:
    from stages._contract.places import Cell


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterParams:
    """What `filter` reads from params.yaml; the comments there give sources and roles."""

    image: Image
    seed: int
    generations: str
    prompts: str
    min_pass_rate: float
    max_pass_rate: float
    max_per_prompt: int
    order: Literal["random", "shortest"]
    min_rows: int

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        check_artifact("filter.generations", self.generations, "artifacts/generate")
        check_artifact("filter.prompts", self.prompts, "artifacts/prompts/train.jsonl")
        if not 0 <= self.min_pass_rate <= self.max_pass_rate <= 1:
            raise ValueError(
                f"filter.min_pass_rate ({self.min_pass_rate}) and filter.max_pass_rate "
                f"({self.max_pass_rate}) must be a band within [0, 1], the first not above the "
                f"second: they are shares of a problem's samples"
            )
        for key in ("max_per_prompt", "min_rows"):
            if getattr(self, key) < 1:
                raise ValueError(f"filter.{key} must be >= 1, not {getattr(self, key)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterInputs:
    """The paths that `filter` reads, relative to the repository root."""

    generations: Path
    prompts: Path


def inputs(params: FilterParams, cell: Cell) -> FilterInputs:
    """Returns the input paths."""
    del cell
    return FilterInputs(generations=Path(params.generations), prompts=Path(params.prompts))
