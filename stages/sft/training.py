"""What the training stages share: exact resumption, a clean model folder, a log of the curve."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import get_last_checkpoint

from stages._contract import manifest
from stages._contract.artifacts import write_jsonl
from stages._contract.determinism import check_observed, observe
from stages._contract.seeding import seed_everything
from stages.sft.training_params import schedule_kwargs

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import Trainer, TrainerControl, TrainingArguments

    from stages.grpo.params import GrpoParams
    from stages.preference.params import PreferenceParams
    from stages.sft.params import SftParams
    from stages.sft.witness import Witness

    Params = SftParams | GrpoParams | PreferenceParams

# What comes with a model and training does not touch.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)


def trainer_kwargs(params: Params, work: Path) -> dict[str, Any]:
    """Returns the arguments of transformers' `TrainingArguments` that all stages set alike.

    Nothing is reported to a service, and nothing but checkpoints in `work` is saved by the trainer.
    """
    return {
        "output_dir": str(work / "checkpoints"),
        "seed": params.seed,
        "model_init_kwargs": {
            "dtype": params.dtype,
            "attn_implementation": params.attn_implementation,
        },
        "learning_rate": params.learning_rate,
        **schedule_kwargs(params.lr_scheduler_type, params.min_lr_rate),
        "warmup_steps": params.warmup_steps,
        "per_device_train_batch_size": params.per_device_train_batch_size,
        "gradient_accumulation_steps": params.gradient_accumulation_steps,
        "weight_decay": params.weight_decay,
        "max_grad_norm": params.max_grad_norm,
        "gradient_checkpointing": params.gradient_checkpointing,
        "optim": "adamw_torch_fused",
        "ddp_find_unused_parameters": False,
        "bf16": params.dtype == "bfloat16",
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": params.logging_steps,
        "save_strategy": "no" if params.save_steps is None else "steps",
        "save_steps": params.save_steps or 0,
        "save_total_limit": 1,
        "report_to": [],
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def train(trainer: Trainer, witness: Witness, params: Params, work: Path) -> None:
    """Trains to the end, from the last complete checkpoint in `work` if an earlier run left one."""
    seed_everything(params.seed, params.num_threads)
    checkpoints = work / "checkpoints"
    is_first = trainer.is_world_process_zero()
    if is_first:
        for folder in checkpoints.glob("checkpoint-*"):
            if not _is_complete(folder, params.num_processes):
                shutil.rmtree(folder)
    trainer.accelerator.wait_for_everyone()
    last = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    step = int(last.rpartition("-")[2]) if last else 0
    if is_first:
        witness.resume(step)
    trainer.add_callback(witness)
    trainer.add_callback(LastStepLogger())
    settings = observe()
    check_observed(settings, params.num_threads, params.cpu_isa)
    manifest.note(resumed_from_step=step, settings=settings, num_processes=trainer.args.world_size)
    trainer.train(resume_from_checkpoint=last)


class LastStepLogger(TrainerCallback):  # type: ignore[misc]  # transformers' callbacks are untyped
    """Logs the last step, too: `logging_steps` need not divide the number of steps."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Returns the trainer's plan for the end of the step."""
        del args, kwargs
        control.should_log |= state.global_step >= state.max_steps
        return control


def _is_complete(checkpoint: Path, num_processes: int) -> bool:
    """Returns whether the trainer's state is there to its end, which process 0 writes last.

    Each process writes the state of its random numbers itself, perhaps later than that.
    """
    try:
        TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return len(list(checkpoint.glob("rng_state*.pth"))) == num_processes


def save_model(trainer: Trainer, source: Path, out: Path) -> None:
    """Writes the trained weights and their config, and `source`'s tokenizer byte for byte.

    All processes call it: under DeepSpeed's ZeRO-3 each has a share of the weights.
    """
    trainer.model.config.use_cache = True  # TRL switches it off while it trains
    weights = None
    if trainer.is_deepspeed_enabled:
        weights = trainer.accelerator.get_state_dict(trainer.deepspeed)
    if not trainer.is_world_process_zero():
        return
    if weights is not None:  # as one process saves it: gathered copies do not look tied
        tied = trainer.model.all_tied_weights_keys
        weights = {name: tensor for name, tensor in weights.items() if name not in tied}
    trainer.model.save_pretrained(out, state_dict=weights)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors creates its file for the owner only


def write_log(trainer: Trainer, columns: dict[str, str], path: Path) -> list[dict[str, Any]]:
    """Writes one row per logged step and returns the rows; None where a step has no such value.

    Args:
        columns: our column's name -> the trainer's. Its durations are left out: they vary.
    """
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    for theirs in columns.values():
        assert any(theirs in entry for entry in entries), f"the trainer logs no {theirs}"
    rows = [
        {"step": entry["step"], **{ours: entry.get(theirs) for ours, theirs in columns.items()}}
        for entry in entries
    ]
    write_jsonl(path, rows)
    return rows
