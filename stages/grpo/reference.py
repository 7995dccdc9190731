"""The reference model of a run that replaces it (`sync_ref_model`), as a part of checkpoints.

TRL saves the policy alone: a run that goes on after the reference was replaced would measure its
KL divergence from the first model again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

if TYPE_CHECKING:
    import torch
    from transformers import TrainerControl, TrainerState, TrainingArguments


class ReferenceKeeper(TrainerCallback):  # type: ignore[misc]  # transformers' callbacks are untyped
    """Saves the reference's weights with a checkpoint, and takes them from there again.

    Under DeepSpeed's ZeRO-3 each process keeps its share, which only as many processes can read.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        """Keeps this model, which TRL changes in place."""
        weights = list(model.parameters())
        self._is_shared_out = any(hasattr(weight, "ds_tensor") for weight in weights)
        self._weights = [getattr(weight, "ds_tensor", weight) for weight in weights]

    def save(self, folder: Path, rank: int) -> None:
        """Writes what this process keeps into the checkpoint's folder."""
        if rank > 0 and not self._is_shared_out:
            return
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {str(i): weight.detach().contiguous() for i, weight in enumerate(self._weights)}
        save_file(tensors, folder / self._name(rank))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes the weights of the checkpoint from which training goes on, if it does."""
        del control, kwargs
        if state.global_step == 0:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        saved = load_file(folder / self._name(args.process_index))
        for i, weight in enumerate(self._weights):
            weight.data.copy_(saved[str(i)])

    def _name(self, rank: int) -> str:
        return f"reference-{rank if self._is_shared_out else 0}.safetensors"
