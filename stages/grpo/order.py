"""The problems' order in a run that goes on: that of a run which nobody has interrupted.

TRL's sampler shuffles anew for each epoch, with a generator that no checkpoint holds: a run that
goes on in its second epoch would see the first one's order again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from stages.grpo.stage import WitnessedTrainer


class OrderKeeper(TrainerCallback):  # type: ignore[misc]  # transformers' callbacks are untyped
    """Lets the sampler shuffle once for each epoch that an earlier run has ended."""

    def __init__(self, trainer: WitnessedTrainer) -> None:
        """Keeps the trainer, whose sampler is made when training begins."""
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Shuffles; the state is the checkpoint's, if there is one."""
        del args, control, kwargs
        for _ in range(int(state.epoch or 0)):
            next(iter(self._trainer.sampler))
