"""Digests of what each training step saw and did, so that two runs can be compared step by step.

They are recorded beside the run, in runs/<stage>.steps.jsonl, and are no part of its hash. With
several processes, those of process 0 are kept; under DeepSpeed's ZeRO-3, of its share of the
weights.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from stages._contract.artifacts import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import TrainerControl, TrainerState, TrainingArguments

_NUM_DIGITS = 8  # of a tensor's digest: enough to tell which one differs first


class Witness(TrainerCallback):  # type: ignore[misc]  # transformers' callbacks are untyped
    """Writes a row per optimizer step: what `add` was told since the last one, and the weights.

    `weights` is the sha256 of all parameters' sha256, `tensors` has the first 8 digits of each, in
    the order of the `names` in row 0, which has the weights before the first step.
    """

    def __init__(self, path: Path) -> None:
        """Begins no file yet: `resume` says which steps of an earlier run are kept."""
        self.path = path
        self._parts: dict[str, Any] = {}

    def add(self, part: str, value: Any) -> None:
        """Adds a tensor, or what JSON can hold, to the digest of a part of the step."""
        content = _to_bytes(value) if isinstance(value, torch.Tensor) else json.dumps(value)
        digest = self._parts.setdefault(part, hashlib.sha256())
        digest.update(content.encode() if isinstance(content, str) else content)

    def resume(self, step: int) -> None:
        """Keeps the rows up to `step`, from whose checkpoint training goes on; 0: none."""
        rows = []
        if step > 0:  # row 0 and one per step; a later one may be half-written
            rows = self.path.read_text(encoding="utf-8").splitlines()[: step + 1]
        with write_whole(self.path) as file:  # a kill leaves the rows to be kept
            file.writelines(f"{row}\n" for row in rows)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Writes row 0, unless an earlier run has."""
        del args, control
        if state.is_world_process_zero and self.path.stat().st_size == 0:
            names = [name for name, _ in kwargs["model"].named_parameters()]
            self._write({"step": 0, "names": names, **_digest_weights(kwargs["model"])})

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Writes the step's row, before its checkpoint is saved."""
        del args, control
        if state.is_world_process_zero:
            parts = {part: digest.hexdigest() for part, digest in self._parts.items()}
            weights = _digest_weights(kwargs["model"])
            self._write({"step": state.global_step, **parts, **weights})
        self._parts = {}

    def _write(self, row: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


class WitnessedBatches:
    """What makes a trainer tell a witness the tokens that each step learns from.

    It stands before transformers' `Trainer` among the bases of a class.
    """

    witness: Witness

    def training_step(self, model: Any, inputs: dict[str, Any], *arguments: Any) -> torch.Tensor:
        """Returns the loss, as the trainer does."""
        self.witness.add("batch", inputs["input_ids"])
        return super().training_step(model, inputs, *arguments)  # type: ignore[misc]


def _digest_weights(model: torch.nn.Module) -> dict[str, str]:
    tensors = [getattr(weight, "ds_tensor", weight) for weight in model.parameters()]
    digests = [hashlib.sha256(_to_bytes(tensor)).hexdigest() for tensor in tensors]
    return {
        "weights": hashlib.sha256("".join(digests).encode()).hexdigest(),
        "tensors": " ".join(digest[:_NUM_DIGITS] for digest in digests),
    }


def _to_bytes(tensor: torch.Tensor) -> memoryview:
    """Returns the tensor's own bytes, whatever its type: numpy has no bfloat16."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())
