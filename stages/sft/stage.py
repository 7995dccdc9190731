"""Fine-tunes the base model on the verified traces, scoring the completions alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from stages._contract.artifacts import iterate_jsonl
from stages._contract.manifest import STEPS
from stages.sft.training import save_model, train, trainer_kwargs, write_log
from stages.sft.witness import Witness, WitnessedBatches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stages.sft.params import SftInputs, SftParams

COLUMNS = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "entropy": "entropy",
    "mean_token_accuracy": "mean_token_accuracy",
}


class WitnessedTrainer(WitnessedBatches, SFTTrainer):  # type: ignore[misc]  # TRL ships no types
    """TRL's trainer, which tells a witness what each step learns from."""


def to_trl(params: SftParams, work: Path) -> dict[str, Any]:
    """Returns the arguments of TRL's `SFTConfig`."""
    return {
        **trainer_kwargs(params, work),
        "num_train_epochs": params.num_train_epochs,
        "max_length": params.max_length,
        "packing": params.packing,
        "loss_type": params.loss_type,
        "use_liger_kernel": params.use_liger_kernel,
        "completion_only_loss": True,
        "dataset_num_proc": params.dataset_num_proc,
    }


def run(params: SftParams, inputs: SftInputs, out: Path, work: Path) -> dict[str, Any]:
    """Writes the trained model and its log.jsonl into `out`; returns the counts and last figures.

    Raises:
        ValueError: a trace is longer than max_length; names the key.
    """
    args = SFTConfig(**to_trl(params, work))
    with args.main_process_first(local=False):  # the others of all nodes find its file
        dataset = load_traces(inputs.dataset, work / "datasets")
    num_traces, num_cut = len(dataset), 0
    trainer = WitnessedTrainer(model=str(inputs.model), args=args, train_dataset=dataset)
    if not params.packing:  # whole traces fill a pack; TRL splits none under the strategy "bfd"
        trainer.train_dataset, num_cut = keep_whole(trainer.train_dataset, num_traces, params)
    trainer.witness = Witness(work / STEPS)
    train(trainer, trainer.witness, params, work)
    save_model(trainer, inputs.model, out)
    log = write_log(trainer, name_columns(params), out / "log.jsonl")
    return {
        "sft": {
            "num_samples": num_traces - num_cut,
            **({"num_dropped": num_cut} if params.drop_longer else {}),
            "num_steps": trainer.state.global_step,
            "loss": log[-1]["loss"],
            "mean_token_accuracy": log[-1]["mean_token_accuracy"],
        }
    }


def load_traces(path: Path, folder: Path) -> Dataset:
    """Returns the traces, in a file below `folder` that all processes map into their memory.

    So are TRL's tokens then, which one process makes and the others find: published traces are too
    many for a copy per process.

    Raises:
        ValueError: the file is corrupted or empty.
    """
    if not sum(1 for _ in iterate_jsonl(path)):  # reads all: `datasets` would wrap an error
        raise ValueError(f"{path} is empty: the stage that writes it left nothing to work on")
    return Dataset.from_generator(
        _iterate_traces, gen_kwargs={"path": str(path)}, cache_dir=str(folder)
    )


def _iterate_traces(path: str) -> Iterator[dict[str, Any]]:
    for row in iterate_jsonl(Path(path)):
        yield {"prompt": row["prompt"], "completion": row["completion"]}


def keep_whole(dataset: Dataset, num_traces: int, params: SftParams) -> tuple[Dataset, int]:
    """Returns the traces that TRL has not cut at max_length, and how many it has.

    The end of those, where the answer is, would never be learnt. TRL has left out already those of
    which nothing would be.

    Raises:
        ValueError: there are some, and `drop_longer` does not allow for it, or all are.
    """
    whole = [
        index for index, ids in enumerate(dataset["input_ids"]) if len(ids) < params.max_length
    ]
    num_cut = num_traces - len(whole)
    if num_cut and not (params.drop_longer and whole):
        remedies = "raise it, lower generate.max_tokens, or set drop_longer to true"
        if params.drop_longer:
            remedies = "raise it, or lower generate.max_tokens"
        raise ValueError(
            f"sft.max_length is {params.max_length} tokens, but {num_cut} of {num_traces} traces "
            f"are as long or longer: {remedies}"
        )
    return (dataset.select(whole), num_cut) if num_cut else (dataset, 0)


def name_columns(params: SftParams) -> dict[str, str]:
    """Returns the columns of the log: ours -> TRL's."""
    # Liger's kernels never have the logits in one place, so that TRL cannot tell the entropy.
    left_out = {"entropy"} if params.use_liger_kernel else set()
    return {ours: theirs for ours, theirs in COLUMNS.items() if ours not in left_out}
