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
_CHUNK = 2**20  # of 8 bytes: temporary copies take no more than that
# splitmix64's (Steele, Lea and Flood, 2014), as the signed numbers that torch knows.
_GAMMA, _FIRST, _SECOND = (
    number - 2**64 for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


class Witness(TrainerCallback):  # type: ignore[misc]  # transformers' callbacks are untyped
    """Writes a row per optimizer step: what `add` was told since the last one, and the weights.

    `weights` is the sha256 of all parameters' `sum_bits`, `tensors` has the first 8 digits of each,
    in the order of the `names` in row 0, which has the weights before the first step.
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
    sums = [sum_bits(getattr(weight, "ds_tensor", weight)) for weight in model.parameters()]
    digests = [f"{total % 2**64:016x}" for total in torch.stack(sums).tolist()]
    return {
        "weights": hashlib.sha256("".join(digests).encode()).hexdigest(),
        "tensors": " ".join(digest[:_NUM_DIGITS] for digest in digests),
    }


def sum_bits(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the sum, modulo 2**64, of a mixture of each 8 bytes of the tensor with their place.

    It is computed where the tensor is: to bring a model of 1.5B parameters from a GPU and hash it
    took six to eight times as long as its training step (docs/log.md). Integers have the same sum
    in any order, so that all devices agree. The mixture is the beginning of a random number
    generator's (splitmix64): enough to tell one run's weights from another's, and no protection
    from somebody who forges them, which is what the digests of the outputs are for.

    Returns:
        an int64 of no dimension, on the tensor's device.
    """
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    words = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).view(torch.int64)
    total = words.new_zeros(())
    for start in range(0, len(words), _CHUNK):
        part = words[start : start + _CHUNK]
        mixed = torch.arange(start, start + len(part), device=part.device).mul_(_GAMMA).add_(part)
        mixed.mul_(_FIRST).bitwise_xor_(mixed >> 32).mul_(_SECOND)
        total += mixed.sum()
    return total


def _to_bytes(tensor: torch.Tensor) -> memoryview:
    """Returns the tensor's own bytes, whatever its type: numpy has no bfloat16."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())
