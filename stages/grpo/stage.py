"""Trains a model by reinforcement learning from verifiable rewards (GRPO)."""

from __future__ import annotations

import os
from dataclasses import asdict
from math import ceil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from stages._contract import manifest
from stages._contract.artifacts import read_jsonl, sha256_tree
from stages.grpo import rewards
from stages.grpo.order import OrderKeeper
from stages.grpo.reference import ReferenceKeeper
from stages.grpo.resample import draw, fill, find_informative
from stages.grpo.reward_models import check_reward_models, check_template, leave_to_rules
from stages.grpo.rewards.completions import read_prefix, show_prefix
from stages.grpo.rewards.limit import check_columns, limit_unscorable
from stages.grpo.rewards.verifier import configure
from stages.grpo.shared_prompts import measure_logps
from stages.sft.training import save_model, train, trainer_kwargs, write_log
from stages.sft.witness import Witness

if TYPE_CHECKING:
    from stages.grpo.params import GrpoInputs, GrpoParams
    from stages.grpo.rewards.completions import Reward

COLUMNS = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "entropy": "entropy",
    "reward": "reward",
    "reward_std": "reward_std",
    "completion_length": "completions/mean_length",
    "truncated_rate": "completions/clipped_ratio",
    "zero_std_rate": "frac_reward_zero_std",
}
# With dynamic sampling.
RESAMPLING = {
    "resampled_rate": "dynamic_sampling/resampled",
    "unfilled_rate": "dynamic_sampling/unfilled",
}


_REWARDS_FOLDER = Path(rewards.__file__).parent


class WitnessedTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL ships no types
    """TRL's trainer, which tells a witness what was sampled and what it was found to be worth.

    Rewards are shown the think tag that the chat template ends a prompt with, if it does.
    """

    witness: Witness
    think_prefix: str
    reference: ReferenceKeeper | None = None
    num_reward_models: int = 0
    max_num_gen_batches: int | None = None
    share_prompts: bool = False
    sampler: Any
    _scores: torch.Tensor

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Any:
        self.sampler = super()._get_train_sampler(dataset)
        return self.sampler

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:  # noqa: FBT001, FBT002
        """Saves a checkpoint's model, as TRL does, and the reference if it changes."""
        super().save_model(output_dir, _internal_call)
        if self.reference is not None:
            assert output_dir, "only checkpoints are saved by this"
            self.reference.save(Path(output_dir), self.args.process_index)

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        shown = show_prefix(prompts, self.think_prefix)
        scores = super()._calculate_rewards(inputs, shown, completions, completion_ids_list)
        if self.num_reward_models:
            scores = leave_to_rules(scores, inputs, self.num_reward_models)
        self.witness.add("rollouts", [prompts, completion_ids_list])
        self.witness.add("rewards", scores)
        self._scores = scores
        return scores

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self.max_num_gen_batches is not None:
            output = self._fill(output, self.max_num_gen_batches)
        self.witness.add("advantages", output["advantages"])
        return output

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        **options: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        if not self.share_prompts:
            arguments = (model, input_ids, attention_mask, logits_to_keep)
            return super()._get_per_token_logps_and_entropies(*arguments, **options)  # type: ignore[no-any-return]
        compute_entropy = options.get("compute_entropy", False)
        num_rows = options.get("batch_size") or len(input_ids)
        parts = [
            measure_logps(
                model, ids, mask, logits_to_keep, self.temperature, compute_entropy=compute_entropy
            )
            for ids, mask in zip(
                input_ids.split(num_rows), attention_mask.split(num_rows), strict=True
            )
        ]
        logps = torch.cat([part[0] for part in parts])
        entropies = [part[1] for part in parts if part[1] is not None]
        return logps, torch.cat(entropies) if entropies else None, None

    def _fill(self, first: dict[str, Any], max_num_gen_batches: int) -> dict[str, Any]:
        filled = fill(
            first,
            self._find_informative(),
            self._sample_more,
            max_num_gen_batches=max_num_gen_batches,
            num_generations=self.num_generations,
            rank=self.accelerator.process_index,
            pad_token_id=self._tokenizer.pad_token_id,
        )
        if filled.resampled > 0:
            tokens = filled.output["completion_mask"].sum()
            filled.output["num_items_in_batch"] = self.accelerator.gather(tokens).sum()
        self._metrics["train"]["dynamic_sampling/resampled"].append(filled.resampled)
        self._metrics["train"]["dynamic_sampling/unfilled"].append(filled.unfilled)
        return filled.output

    def _sample_more(self, batch: int, num: int) -> tuple[dict[str, Any], torch.Tensor]:
        """Returns a batch of `num` groups per process, and which of all processes' differ."""
        rank, num_processes = self.accelerator.process_index, self.accelerator.num_processes
        # Not TRL's count of passes, which begins anew when a run goes on.
        now = self.state.global_step, self._step % self.args.gradient_accumulation_steps, batch
        drawn = draw(len(self.train_dataset), num * num_processes, self.args.seed, *now)
        rows = [self.train_dataset[i] for i in drawn[rank * num : (rank + 1) * num]]
        inputs = [dict(row) for row in rows for _ in range(self.num_generations)]
        return super()._generate_and_score_completions(inputs), self._find_informative()

    def _find_informative(self) -> torch.Tensor:
        found = find_informative(self._scores, self.reward_weights, self.num_generations)
        return found.view(self.accelerator.num_processes, -1)


def to_trl(params: GrpoParams, work: Path) -> dict[str, Any]:
    """Returns the arguments of TRL's `GRPOConfig`."""
    return {
        **trainer_kwargs(params, work),
        "max_steps": params.max_steps,
        "use_liger_kernel": params.use_liger_kernel,
        "reward_weights": [
            *(params.rewards[name] for name in sorted(params.rewards)),
            *(params.reward_models[folder] for folder in sorted(params.reward_models)),
        ],
        "num_generations": params.num_generations,
        "max_completion_length": params.max_completion_length,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "beta": params.beta,
        "use_bias_correction_kl": params.use_bias_correction_kl,
        "loss_type": params.loss_type,
        "importance_sampling_level": params.importance_sampling_level,
        "scale_rewards": params.scale_rewards,
        "epsilon": params.epsilon,
        "epsilon_high": params.epsilon_high,
        "num_iterations": params.num_iterations,
        "steps_per_generation": params.passes_per_generation,
        "sync_ref_model": params.sync_ref_model,
        "ref_model_sync_steps": params.ref_model_sync_steps,
        "ref_model_mixup_alpha": params.ref_model_mixup_alpha,
        "mask_truncated_completions": params.mask_truncated_completions,
        "use_vllm": params.use_vllm,
        "vllm_mode": params.vllm_mode,
        "vllm_gpu_memory_utilization": params.vllm_gpu_memory_utilization,
        "vllm_tensor_parallel_size": params.vllm_tensor_parallel_size,
        "vllm_max_model_length": params.vllm_max_model_length,
        "vllm_importance_sampling_correction": params.vllm_importance_sampling_correction,
        "vllm_importance_sampling_mode": params.vllm_importance_sampling_mode,
        "vllm_importance_sampling_clip_max": params.vllm_importance_sampling_clip_max,
        "vllm_importance_sampling_clip_min": params.vllm_importance_sampling_clip_min,
    }


def run(params: GrpoParams, inputs: GrpoInputs, out: Path, work: Path) -> dict[str, Any]:
    """Writes the trained model and its log.jsonl into `out`; returns means over the last steps.

    Source: DeepSeekMath, equation 3, and DeepSeek-R1 (v2), section 2.1, as TRL implements them.

    Raises:
        ValueError: vLLM is asked for where TRL cannot feed it new weights.
    """
    if params.use_vllm and not torch.cuda.is_available():
        raise ValueError(
            "grpo.use_vllm is true, but there is no GPU, and TRL's weight sync into vLLM needs one "
            "(ADR 0004): set it to false to generate with transformers"
        )
    server = {}
    if params.use_vllm and params.vllm_mode == "server":
        server = {"vllm_server_base_url": _find_server()}
    rows = read_jsonl(inputs.prompts)
    functions = choose_rewards(params, rows)
    if inputs.reward_models:
        check_reward_models(inputs.reward_models, rows)
    manifest.note(
        generator="vllm" if params.use_vllm else "transformers",
        rewards={"version": rewards.VERSION, "code_sha256": sha256_tree(_REWARDS_FOLDER)},
    )
    trainer = WitnessedTrainer(
        model=str(inputs.model),
        reward_funcs=[*functions, *map(str, inputs.reward_models)],
        args=GRPOConfig(**to_trl(params, work), **server),
        train_dataset=Dataset.from_list(rows),
    )
    trainer.think_prefix = read_prefix(trainer.processing_class)
    trainer.num_reward_models = len(inputs.reward_models)
    if inputs.reward_models:
        check_template(trainer.think_prefix)
    if params.sync_ref_model:
        trainer.reference = ReferenceKeeper(trainer.ref_model)
        trainer.add_callback(trainer.reference)
    trainer.add_callback(OrderKeeper(trainer))
    trainer.max_num_gen_batches = params.max_num_gen_batches
    trainer.share_prompts = params.share_prompts
    trainer.witness = Witness(work / manifest.STEPS)
    train(trainer, trainer.witness, params, work)
    save_model(trainer, inputs.model, out)
    log = write_log(trainer, name_columns(params), out / "log.jsonl")
    return {"grpo": _measure(log, len(rows), params)}


def _find_server() -> str:
    """Returns the server's address: the only thing that a stage reads from its environment."""
    url = os.environ.get("R1_VLLM_SERVER")
    if not url:
        raise ValueError(
            "grpo.vllm_mode is server, and R1_VLLM_SERVER names none: sites of kind slurm start "
            "one (slurm/README.md); elsewhere set it to the address of `trl vllm-serve`, or "
            "vllm_mode to colocate"
        )
    return url


def choose_rewards(params: GrpoParams, rows: list[dict[str, Any]]) -> list[Reward]:
    """Returns the rewards that have a weight, one of 0 too: then its curve is only logged.

    They are ordered by name.

    Raises:
        ValueError: no row has the columns of a reward, or what it runs programs with is missing.
    """
    names = sorted(params.rewards)
    asked = SimpleNamespace(reward_funcs=names, **asdict(params.reward_args))
    functions = dict(zip(names, rewards.get_reward_funcs(asked), strict=True))
    for name, function in functions.items():
        check_columns(name, function, rows)
    rewards.check_sandbox_of(names, rows)
    configure(timeout_s=params.reward_args.verify_cpu_s)
    return [limit_unscorable(name, functions[name], params.max_unscorable_rate) for name in names]


def name_columns(params: GrpoParams) -> dict[str, str]:
    """Returns the columns of the log: ours -> TRL's."""
    columns = dict(COLUMNS)
    for name in sorted(params.rewards):
        columns |= {name: f"rewards/{name}/mean", f"unscorable/{name}": f"unscorable/{name}"}
    if params.max_num_gen_batches is not None:
        columns |= RESAMPLING
    for model in _name_models(params):
        columns |= {f"reward_model/{model}": f"rewards/{model}/mean"}
    # TRL measures the divergence from the first model only if it is part of the loss.
    return columns | ({"kl": "kl"} if params.beta > 0 else {})


def _name_models(params: GrpoParams) -> list[str]:
    """Returns TRL's names of the reward models: the last part of their folders."""
    return [Path(folder).name for folder in sorted(params.reward_models)]


def _measure(log: list[dict[str, Any]], num_prompts: int, params: GrpoParams) -> dict[str, Any]:
    """Returns the counts, the unscorable share, and means over the last quarter of the steps.

    Single steps are noise. Steps that have no value (no completion was scored) are left out.
    """

    def mean(name: str, steps: list[dict[str, Any]]) -> float | None:
        values = [row[name] for row in steps if row.get(name) is not None]
        return sum(values) / len(values) if values else None

    last = log[-max(1, len(log) // 4) :]
    models = [f"reward_model/{model}" for model in _name_models(params)]
    names = ["reward", *params.rewards, *models, "completion_length", "entropy", "kl"]
    finals = {f"final_{name}": mean(name, last) for name in names}
    shares = [mean(f"unscorable/{name}", log) for name in params.rewards]
    num_passes = params.max_steps * params.gradient_accumulation_steps
    num_batches = ceil(num_passes / (params.passes_per_generation * params.num_iterations))
    return {
        "num_prompts": num_prompts,
        "num_steps": params.max_steps,
        "num_completions": num_batches * params.generation_batch_size,
        "unscorable_rate": max((share for share in shares if share is not None), default=0.0),
        **{name: mean(name, log) for name in RESAMPLING if params.max_num_gen_batches},
        **{name: value for name, value in finals.items() if value is not None},
    }
