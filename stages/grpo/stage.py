"""Trains the SFT model by reinforcement learning from verifiable rewards (GRPO)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from stages._contract import manifest
from stages._contract.artifacts import read_jsonl
from stages.grpo.rewards import choose
from stages.sft.training import save_model, train, trainer_kwargs, write_log
from stages.sft.witness import Witness

if TYPE_CHECKING:
    from pathlib import Path

    from stages.grpo.params import GrpoInputs, GrpoParams

COLUMNS = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "entropy": "entropy",
    "reward": "reward",
    "reward_std": "reward_std",
    "accuracy": "rewards/accuracy/mean",
    "format": "rewards/format/mean",
    "completion_length": "completions/mean_length",
    "truncated_rate": "completions/clipped_ratio",
    "zero_std_rate": "frac_reward_zero_std",
}


class WitnessedTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL ships no types
    """TRL's trainer, which tells a witness what was sampled and what it was found to be worth."""

    witness: Witness

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self.witness.add("rollouts", [prompts, completion_ids_list])
        self.witness.add("rewards", rewards)
        return rewards

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        self.witness.add("advantages", output["advantages"])
        return output


def to_trl(params: GrpoParams, work: Path) -> dict[str, Any]:
    """Returns the arguments of TRL's `GRPOConfig`."""
    _, weights = choose(params.rewards)
    return {
        **trainer_kwargs(params, work),
        "max_steps": params.max_steps,
        "reward_weights": weights,
        "num_generations": params.num_generations,
        "max_completion_length": params.max_completion_length,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "beta": params.beta,
        "loss_type": params.loss_type,
        "scale_rewards": params.scale_rewards,
        "epsilon": params.epsilon,
        "num_iterations": params.num_iterations,
        "mask_truncated_completions": params.mask_truncated_completions,
        "use_vllm": params.use_vllm,
        "vllm_mode": params.vllm_mode,
        "vllm_gpu_memory_utilization": params.vllm_gpu_memory_utilization,
        "vllm_tensor_parallel_size": params.vllm_tensor_parallel_size,
    }


def run(params: GrpoParams, inputs: GrpoInputs, out: Path, work: Path) -> dict[str, Any]:
    """Writes the trained model and its log.jsonl into `out`; returns means over the last steps.

    Source: DeepSeekMath, equation 3, and DeepSeek-R1, section 2.2.1, as TRL implements them.

    Raises:
        ValueError: vLLM is asked for where TRL cannot feed it new weights.
    """
    if params.use_vllm and not torch.cuda.is_available():
        raise ValueError(
            "grpo.use_vllm is true, but there is no GPU, and TRL's weight sync into vLLM needs one "
            "(ADR 0004): set it to false to generate with transformers"
        )
    manifest.note(generator="vllm" if params.use_vllm else "transformers")
    rows = read_jsonl(inputs.prompts)
    functions, _ = choose(params.rewards)
    trainer = WitnessedTrainer(
        model=str(inputs.model),
        reward_funcs=functions,
        args=GRPOConfig(**to_trl(params, work)),
        train_dataset=Dataset.from_list(rows),
    )
    trainer.witness = Witness(work / manifest.STEPS)
    train(trainer, trainer.witness, params, work)
    save_model(trainer, inputs.model, out)
    # TRL measures the divergence from the SFT model only if it is part of the loss.
    columns = COLUMNS | ({"kl": "kl"} if params.beta > 0 else {})
    log = write_log(trainer, columns, out / "log.jsonl")
    return {"grpo": _measure(log, len(rows), params)}


def _measure(log: list[dict[str, Any]], num_prompts: int, params: GrpoParams) -> dict[str, Any]:
    """Returns the counts, and means over the last quarter of the steps: single ones are noise."""
    last = log[-max(1, len(log) // 4) :]
    names = ("reward", "accuracy", "format", "completion_length", "entropy", "kl")
    batch = params.per_device_train_batch_size * params.gradient_accumulation_steps
    return {
        "num_prompts": num_prompts,
        "num_steps": params.max_steps,
        "num_completions": batch * params.max_steps,
        **{f"final_{n}": sum(row[n] for row in last) / len(last) for n in names if n in last[0]},
    }
