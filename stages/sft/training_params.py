"""What the parameters of all training stages have in common. Standard library only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from stages._contract.processes import Distributed, check_processes

if TYPE_CHECKING:
    from collections.abc import Sequence

Dtype = Literal["float32", "bfloat16"]
AttnImplementation = Literal["sdpa", "flash_attention_2", "flash_attention_4"]
Schedule = Literal["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_min_lr"]

_COUNTS = (
    "num_threads",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "logging_steps",
)
_NULL_MEANS = {"save_steps": "no checkpoints", "dataset_num_proc": "this process alone"}


class Trained(Protocol):
    """The parameters that every training stage has, under the names of `TrainingArguments`."""

    @property
    def distributed(self) -> Distributed: ...  # noqa: D102
    @property
    def num_processes(self) -> int: ...  # noqa: D102
    @property
    def lr_scheduler_type(self) -> Schedule: ...  # noqa: D102
    @property
    def min_lr_rate(self) -> float: ...  # noqa: D102


def check_training(
    stage: str,
    params: Trained,
    *,
    positive: Sequence[str] = (),
    counts: Sequence[str] = (),
    counts_or_null: Sequence[str] = (),
) -> None:
    """Checks the bounds of what all training stages have. Raises ValueError naming the key.

    Args:
        stage: the section of params.yaml.
        params: the stage's parameters.
        positive: more keys, which this stage has: their values must be above 0,
        counts: 1 or more,
        counts_or_null: or null.
    """
    check_processes(stage, params.distributed, params.num_processes)
    check_schedule(stage, params.lr_scheduler_type, params.min_lr_rate)
    for key in ("learning_rate", "max_grad_norm", *positive):
        if getattr(params, key) <= 0:
            raise ValueError(f"{stage}.{key} must be > 0, not {getattr(params, key)}")
    for key in ("warmup_steps", "weight_decay"):
        if getattr(params, key) < 0:
            raise ValueError(f"{stage}.{key} must be >= 0, not {getattr(params, key)}")
    for key in (*_COUNTS, *counts):
        if getattr(params, key) < 1:
            raise ValueError(f"{stage}.{key} must be >= 1, not {getattr(params, key)}")
    for key in ("save_steps", *counts_or_null):
        value = getattr(params, key)
        if value is not None and value < 1:
            null = _NULL_MEANS[key]
            raise ValueError(f"{stage}.{key} must be >= 1, or null for {null}, not {value}")


def check_schedule(stage: str, lr_scheduler_type: Schedule, min_lr_rate: float) -> None:
    """Checks that a rate that the schedule does not read is 0. Raises ValueError."""
    has_rate = lr_scheduler_type == "cosine_with_min_lr"
    if not 0 <= min_lr_rate < 1 or (min_lr_rate > 0) != has_rate:
        raise ValueError(
            f"{stage}.min_lr_rate must be in (0, 1) with lr_scheduler_type cosine_with_min_lr, and "
            f"0.0 with others, not {min_lr_rate} with {lr_scheduler_type}"
        )


def schedule_kwargs(lr_scheduler_type: Schedule, min_lr_rate: float) -> dict[str, Any]:
    """Returns the arguments of transformers' `TrainingArguments` that say the schedule."""
    if lr_scheduler_type != "cosine_with_min_lr":
        return {"lr_scheduler_type": lr_scheduler_type}
    kwargs = {"min_lr_rate": min_lr_rate}
    return {"lr_scheduler_type": lr_scheduler_type, "lr_scheduler_kwargs": kwargs}
