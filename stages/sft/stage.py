"""Fine-tunes the base model on the verified traces, scoring the completions alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from stages._contract.artifacts import read_jsonl
from stages._contract.manifest import STEPS
from stages.sft.training import save_model, train, trainer_kwargs, write_log
from stages.sft.witness import Witness

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from stages.sft.params import SftInputs, SftParams

COLUMNS = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "entropy": "entropy",
    "mean_token_accuracy": "mean_token_accuracy",
}


class WitnessedTrainer(SFTTrainer):  # type: ignore[misc]  # TRL ships no types
    """TRL's trainer, which tells a witness what each step learns from."""

    witness: Witness

    def training_step(self, model: Any, inputs: dict[str, Any], *arguments: Any) -> torch.Tensor:
        """Returns the loss, as TRL does."""
        self.witness.add("batch", inputs["input_ids"])
        return super().training_step(model, inputs, *arguments)


def to_trl(params: SftParams, work: Path) -> dict[str, Any]:
    """Returns the arguments of TRL's `SFTConfig`."""
    return {
        **trainer_kwargs(params, work),
        "num_train_epochs": params.num_train_epochs,
        "max_length": params.max_length,
        "packing": params.packing,
        "loss_type": params.loss_type,
        "completion_only_loss": True,
    }


def run(params: SftParams, inputs: SftInputs, out: Path, work: Path) -> dict[str, Any]:
    """Writes the trained model and its log.jsonl into `out`; returns the counts and last figures.

    Raises:
        ValueError: a trace is longer than max_length; names the key.
    """
    rows = read_jsonl(inputs.dataset)
    dataset = Dataset.from_list(
        [{"prompt": row["prompt"], "completion": row["completion"]} for row in rows]
    )
    trainer = WitnessedTrainer(
        model=str(inputs.model),
        args=SFTConfig(**to_trl(params, work)),
        train_dataset=dataset,
    )
    _check_lengths(trainer, params)
    trainer.witness = Witness(work / STEPS)
    train(trainer, trainer.witness, params, work)
    save_model(trainer, inputs.model, out)
    log = write_log(trainer, COLUMNS, out / "log.jsonl")
    return {
        "sft": {
            "num_samples": len(rows),
            "num_steps": trainer.state.global_step,
            "loss": log[-1]["loss"],
            "mean_token_accuracy": log[-1]["mean_token_accuracy"],
        }
    }


def _check_lengths(trainer: SFTTrainer, params: SftParams) -> None:
    """Refuses traces that TRL has cut at max_length: their end would never be learnt."""
    if params.packing:
        return  # whole traces fill a pack; TRL splits none under the strategy "bfd"
    num_cut = sum(len(ids) >= params.max_length for ids in trainer.train_dataset["input_ids"])
    if num_cut:
        raise ValueError(
            f"sft.max_length is {params.max_length} tokens, but {num_cut} traces are as long or "
            f"longer: raise it, or lower generate.max_tokens"
        )
