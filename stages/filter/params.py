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
class ThoughtParams:
    """What a chain of thought may be; thought.py defines the measures, and null is no limit."""

    language: Literal["en", "zh"]
    min_language_consistency: float | None
    max_paragraph_chars: int | None
    reject_code_blocks: bool
    repetition_n_grams: int
    max_repetition: float | None

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        for key in ("min_language_consistency", "max_repetition"):
            value = getattr(self, key)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(
                    f"filter.thought.{key} must be in [0, 1], or null, not {value}: it is a share"
                )
        if self.max_paragraph_chars is not None and self.max_paragraph_chars < 1:
            raise ValueError(
                f"filter.thought.max_paragraph_chars must be >= 1, or null for no limit, not "
                f"{self.max_paragraph_chars}"
            )
        if self.repetition_n_grams < 1:
            raise ValueError(
                f"filter.thought.repetition_n_grams must be >= 1, not {self.repetition_n_grams}: "
                f"these are words"
            )


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
    thought: ThoughtParams
    unverified_tasks: list[str]
    mix: dict[str, float]
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
        for path, weight in self.mix.items():
            check_artifact("filter.mix", path, "name another data set's train.jsonl")
            if weight <= 0:
                raise ValueError(
                    f"filter.mix.{path} must be > 0, not {weight}: it is how many copies of each "
                    f"row are added; leave the file out for none"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterInputs:
    """The paths that `filter` reads, relative to the repository root."""

    generations: Path
    prompts: Path
    mix: list[Path]


def inputs(params: FilterParams, cell: Cell) -> FilterInputs:
    """Returns the input paths."""
    del cell
    return FilterInputs(
        generations=Path(params.generations),
        prompts=Path(params.prompts),
        mix=[Path(path) for path in params.mix],
    )
