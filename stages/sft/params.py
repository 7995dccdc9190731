"""Parameters of `sft`; the names are TRL's `SFTConfig`'s own.

Standard library only: the graph is read without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stages._contract.determinism import CpuIsa  # noqa: TC001 - the loader reads the types
from stages._contract.params import Image, check_artifact
from stages._contract.processes import Distributed  # noqa: TC001 - as above
from stages.sft.training_params import AttnImplementation, Dtype, Schedule, check_training

if TYPE_CHECKING:
    from stages._contract.places import Cell


@dataclass(frozen=True, kw_only=True, slots=True)
class SftParams:
    """What `sft` reads from params.yaml; the comments there give sources and roles."""

    image: Image
    model: str
    dataset: str
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
    packing: bool
    loss_type: Literal["nll", "chunked_nll"]
    use_liger_kernel: bool
    gradient_checkpointing: bool
    logging_steps: int
    save_steps: int | None

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        check_artifact("sft.model", self.model, "artifacts/base is the base model")
        remedy = "artifacts/filter/train.jsonl, or artifacts/prompts/traces.jsonl"
        check_artifact("sft.dataset", self.dataset, remedy)
        check_training(
            "sft",
            self,
            positive=["num_train_epochs"],
            counts=["max_length"],
            counts_or_null=["dataset_num_proc"],
        )
        self._check_kernels()

    def _check_kernels(self) -> None:
        if self.use_liger_kernel and self.loss_type == "chunked_nll":
            raise ValueError(
                "sft.use_liger_kernel is true and loss_type is chunked_nll: Liger's loss has "
                "chunks of its own, and TRL refuses both; set loss_type to nll"
            )
        if self.packing and self.attn_implementation != "flash_attention_2":
            raise ValueError(
                f"sft.packing needs attn_implementation flash_attention_2, not "
                f"{self.attn_implementation}: otherwise packed samples attend to one another; set "
                f"packing to false"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SftInputs:
    """The paths that `sft` reads, relative to the repository root."""

    model: Path
    dataset: Path


def inputs(params: SftParams, cell: Cell) -> SftInputs:
    """Returns the input paths."""
    del cell
    return SftInputs(model=Path(params.model), dataset=Path(params.dataset))
