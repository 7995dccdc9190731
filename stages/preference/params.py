"""Parameters of `preference`; the names are TRL's `RewardConfig`'s own.

Standard library only: the graph is read without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages._contract.determinism import CpuIsa  # noqa: TC001 - the loader reads the types
from stages._contract.params import Image, check_artifact
from stages._contract.processes import Distributed  # noqa: TC001 - as above
from stages.sft.training_params import AttnImplementation, Dtype, Schedule, check_training

if TYPE_CHECKING:
    from stages._contract.places import Cell


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferenceParams:
    """What `preference` reads from params.yaml; the comments there give sources and roles."""

    image: Image
    model: str
    dataset: str
    kinds: list[str]
    system_prompt: str | None
    held_out_share: float
    seed: int
    distributed: Distributed
    num_processes: int
    num_threads: int
    cpu_isa: CpuIsa
    dtype: Dtype
    attn_implementation: AttnImplementation
    learning_rate: float
    lr_scheduler_type: Schedule
    min_lr_rate: float
    warmup_steps: float
    num_train_epochs: float
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    weight_decay: float
    max_grad_norm: float
    max_length: int
    drop_longer: bool
    dataset_num_proc: int | None
    center_rewards_coefficient: float | None
    gradient_checkpointing: bool
    logging_steps: int
    save_steps: int | None

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        check_artifact("preference.model", self.model, "artifacts/base, or an SFT model's folder")
        remedy = "stages/prompts/problems/preference.jsonl, or another file of pairs"
        check_artifact("preference.dataset", self.dataset, remedy)
        check_training(
            "preference",
            self,
            positive=["num_train_epochs"],
            counts=["max_length"],
            counts_or_null=["dataset_num_proc"],
        )
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"preference.kinds must name each kind once, not {self.kinds}")
        if self.system_prompt is not None and not self.system_prompt.strip():
            raise ValueError(
                "preference.system_prompt must have a text, or be null for no system message"
            )
        if not 0 < self.held_out_share < 1:
            raise ValueError(
                f"preference.held_out_share must be in (0, 1), not {self.held_out_share}: it is "
                f"the share of the prompts whose pairs are kept to measure the accuracy"
            )
        weight = self.center_rewards_coefficient
        if weight is not None and weight <= 0:
            raise ValueError(
                f"preference.center_rewards_coefficient must be > 0, or null for no such term, not "
                f"{weight}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferenceInputs:
    """The paths that `preference` reads, relative to the repository root."""

    model: Path
    dataset: Path


def inputs(params: PreferenceParams, cell: Cell) -> PreferenceInputs:
    """Returns the input paths."""
    del cell
    return PreferenceInputs(model=Path(params.model), dataset=Path(params.dataset))
