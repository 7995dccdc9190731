"""The learning rate's schedule, as all training stages read it. Standard library only."""

from __future__ import annotations

from typing import Any, Literal

Schedule = Literal["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_min_lr"]


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
