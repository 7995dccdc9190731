"""Parameters of `generate`: which model samples, how, and how many traces per problem.

Standard library only: the graph is read without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages._contract.determinism import CpuIsa  # noqa: TC001 - the loader reads the types
from stages._contract.params import (
    Image,
    check_artifact,
)
from stages.generate.engine_params import EngineParams  # noqa: TC001 - the loader reads the types

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stages._contract.places import Cell


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateParams:
    """What `generate` reads from params.yaml; the comments there give sources and roles."""

    image: Image
    seed: int
    num_threads: int
    cpu_isa: CpuIsa
    model: str
    prompts: str
    examples: str
    num_examples: int
    num_samples: int
    temperature: float
    top_p: float
    max_tokens: int
    shard_size: int
    engine: EngineParams

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        remedy = "artifacts/base is the base model, any other folder a teacher"
        check_artifact("generate.model", self.model, remedy)
        check_artifact("generate.prompts", self.prompts, "artifacts/prompts/train.jsonl")
        check_artifact("generate.examples", self.examples, "artifacts/prompts/examples.jsonl")
        bounds: Mapping[str, tuple[int, str]] = {
            "num_threads": (1, "the CPU threads of the engine"),
            "num_examples": (0, "0 samples without worked examples"),
            "num_samples": (1, "each problem needs a trace"),
            "max_tokens": (1, "a trace needs a token"),
            "shard_size": (1, "a shard holds the samples of that many problems"),
        }
        for key, (least, remedy) in bounds.items():
            value = getattr(self, key)
            if value < least:
                raise ValueError(f"generate.{key} must be >= {least}, not {value}: {remedy}")
        if self.temperature < 0:
            raise ValueError(f"generate.temperature must be >= 0, not {self.temperature}")
        if self.temperature == 0 and self.num_samples > 1:
            raise ValueError(
                f"generate.num_samples is {self.num_samples} at temperature 0: all samples of a "
                f"problem would be the same; set num_samples to 1 or raise the temperature"
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"generate.top_p must be in (0, 1], not {self.top_p}")
        if self.max_tokens >= self.engine.max_model_len:
            raise ValueError(
                f"generate.max_tokens ({self.max_tokens}) leaves no room for the prompt in "
                f"generate.engine.max_model_len ({self.engine.max_model_len})"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateInputs:
    """The paths that `generate` reads, relative to the repository root."""

    model: Path
    prompts: Path
    examples: Path


def inputs(params: GenerateParams, cell: Cell) -> GenerateInputs:
    """Returns the input paths."""
    del cell
    return GenerateInputs(
        model=Path(params.model),
        prompts=Path(params.prompts),
        examples=Path(params.examples),
    )
