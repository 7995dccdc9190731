"""Trains a reward model on pairs of responses: which of two a person would rather have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from trl import RewardConfig, RewardTrainer

from stages._contract.artifacts import write_jsonl
from stages._contract.manifest import STEPS
from stages.preference.pairs import load_pairs, measure, split_pairs, to_conversation
from stages.sft.training import save_model, train, trainer_kwargs, write_log
from stages.sft.witness import Witness, WitnessedBatches

if TYPE_CHECKING:
    from pathlib import Path

    from stages.preference.params import PreferenceInputs, PreferenceParams

COLUMNS = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "accuracy": "accuracy",
    "margin": "margin",
    "mean_reward": "mean_reward",
}


class WitnessedTrainer(WitnessedBatches, RewardTrainer):  # type: ignore[misc]  # TRL ships no types
    """TRL's trainer, which tells a witness what each step learns from."""


def to_trl(params: PreferenceParams, work: Path) -> dict[str, Any]:
    """Returns the arguments of TRL's `RewardConfig`."""
    return {
        **trainer_kwargs(params, work),
        "num_train_epochs": params.num_train_epochs,
        "per_device_eval_batch_size": params.per_device_train_batch_size,
        "max_length": params.max_length,
        "dataset_num_proc": params.dataset_num_proc,
        "center_rewards_coefficient": params.center_rewards_coefficient,
    }


def run(
    params: PreferenceParams, inputs: PreferenceInputs, out: Path, work: Path
) -> dict[str, Any]:
    """Writes the reward model, its log.jsonl and held_out.jsonl into `out`; returns the accuracy.

    Source: DeepSeek-R1 (arXiv:2501.12948v2), section 3.1, the helpful reward model; the loss is
    that of Bradley and Terry's model, as TRL implements it: -log sigmoid(chosen - rejected).

    Raises:
        ValueError: a pair is unusable, or longer than max_length; names the key.
    """
    pairs = load_pairs(inputs.dataset, params.kinds)
    sides = split_pairs(pairs, params.held_out_share, params.seed)
    trained, held_out = (
        Dataset.from_list([to_conversation(pair, params.system_prompt) for pair in side])
        for side in sides
    )
    trainer = WitnessedTrainer(
        model=str(inputs.model),
        args=RewardConfig(**to_trl(params, work)),
        train_dataset=trained,
        eval_dataset=held_out,
    )
    num_dropped = check_lengths(trainer, len(trained), len(held_out), params)
    trainer.witness = Witness(work / STEPS)
    train(trainer, trainer.witness, params, work)
    rows = score_held_out(trainer)
    save_model(trainer, inputs.model, out)
    log = write_log(trainer, COLUMNS, out / "log.jsonl")
    write_jsonl(out / "held_out.jsonl", rows)
    return {
        "preference": {
            "num_pairs": len(trainer.train_dataset),
            **({"num_dropped": num_dropped} if params.drop_longer else {}),
            "num_steps": trainer.state.global_step,
            "loss": log[-1]["loss"],
            "held_out": measure(rows),
        }
    }


def check_lengths(
    trainer: RewardTrainer, num_trained: int, num_held_out: int, params: PreferenceParams
) -> int:
    """Returns how many pairs TRL has left out, one of whose texts exceeds max_length.

    Raises:
        ValueError: there are some, and `drop_longer` does not allow for it, or a side is empty.
    """
    kept = (len(trainer.train_dataset), len(trainer.eval_dataset))
    num_dropped = num_trained + num_held_out - sum(kept)
    if num_dropped and not (params.drop_longer and all(kept)):
        remedies = "raise it, or set drop_longer to true"
        if params.drop_longer:
            side = "held out" if kept[0] else "trained on"
            remedies = f"raise it, as none is left to be {side}"
        raise ValueError(
            f"preference.max_length is {params.max_length} tokens, but {num_dropped} of "
            f"{num_trained + num_held_out} pairs have a longer text: {remedies}"
        )
    return num_dropped


def score_held_out(trainer: RewardTrainer) -> list[dict[str, Any]]:
    """Returns a row per held-out pair: line, kind, margin, and how many more tokens chosen has.

    Not `trainer.evaluate`, whose accuracy is a mean over batches, the last and smaller one as heavy
    as the others. All processes call it, and each gets all rows.
    """
    model, accelerator = trainer.model_wrapped, trainer.accelerator
    model.eval()
    margins: list[float] = []
    for batch in trainer.get_eval_dataloader():
        with torch.no_grad():
            rewards = model(**trainer._prepare_inputs(batch)).logits.squeeze(-1)  # noqa: SLF001
        chosen, rejected = rewards.chunk(2)
        margins += accelerator.gather_for_metrics(chosen - rejected).tolist()
    return [
        {
            "line": row["line"],
            "kind": row["kind"],
            "margin": margin,
            "num_more_tokens": len(row["chosen_ids"]) - len(row["rejected_ids"]),
        }
        for row, margin in zip(trainer.eval_dataset, margins, strict=True)
    ]
