"""Parameters of `grpo`; the names are TRL's `GRPOConfig`'s own.

Standard library only: the graph is read without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stages._contract.determinism import CpuIsa  # noqa: TC001 - the loader reads the types
from stages._contract.params import Image, check_artifact
from stages._contract.processes import Distributed  # noqa: TC001 - as above
from stages.sft.training_params import AttnImplementation, Dtype, Schedule, check_training

if TYPE_CHECKING:
    from stages._contract.places import Cell

# Of stages/grpo/rewards, which imports what this file must not.
REWARDS = (
    "accuracy",
    "answer_accuracy",
    "answer_format",
    "binary_code",
    "cf_code",
    "code",
    "code_format",
    "cosine",
    "flexible_accuracy",
    "format",
    "ioi_code",
    "language_consistency",
    "length",
    "reasoning_gym",
    "reasoning_steps",
    "repetition_penalty",
    "soft_overlong_punishment",
    "tag_count",
)
# In the order that their values must have.
_COSINE_VALUES = (
    "cosine_min_value_wrong",
    "cosine_max_value_wrong",
    "cosine_min_value_correct",
    "cosine_max_value_correct",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardArgs:
    """What rewards are parametrised with, under the names of Open-R1's `GRPOScriptArguments`.

    Names of our own: verify_cpu_s, repetition_language, target_language, code_cpu_s and
    code_memory_bytes.
    """

    verify_cpu_s: float
    cosine_min_value_wrong: float
    cosine_max_value_wrong: float
    cosine_min_value_correct: float
    cosine_max_value_correct: float
    cosine_max_len: int
    repetition_n_grams: int
    repetition_max_penalty: float
    repetition_language: Literal["en", "zh"]
    target_language: Literal["en", "zh"]
    max_completion_len: int
    soft_punish_cache: int
    code_language: Literal["python", "cpp"]
    code_eval_scoring_mode: Literal["pass_fail", "partial", "weighted_sum"]
    parallel_code_exec_per_proc: int
    code_cpu_s: float
    code_memory_bytes: int

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        key = "grpo.reward_args"
        for name in (
            "verify_cpu_s",
            "cosine_max_len",
            "repetition_n_grams",
            "max_completion_len",
            "parallel_code_exec_per_proc",
            "code_cpu_s",
            "code_memory_bytes",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{key}.{name} must be > 0, not {getattr(self, name)}")
        if self.repetition_max_penalty > 0:
            raise ValueError(
                f"{key}.repetition_max_penalty must be <= 0, not {self.repetition_max_penalty}: it "
                f"is added to the reward"
            )
        for low, high in pairwise(_COSINE_VALUES):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{key}.{low} must be <= {high} ({getattr(self, high)}), not "
                    f"{getattr(self, low)}: put {', '.join(_COSINE_VALUES)} in ascending order, or "
                    f"wrong answers are worth more than they should be, as with Open-R1's defaults"
                )
        if not 0 < self.soft_punish_cache <= self.max_completion_len:
            raise ValueError(
                f"{key}.soft_punish_cache must be in (0, max_completion_len], not "
                f"{self.soft_punish_cache}: these last tokens are punished gradually"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class GrpoParams:
    """What `grpo` reads from params.yaml; the comments there give sources and roles."""

    image: Image
    seed: int
    distributed: Distributed
    num_processes: int
    num_threads: int
    cpu_isa: CpuIsa
    dtype: Dtype
    attn_implementation: AttnImplementation
    model: str
    prompts: str
    rewards: dict[str, float]
    reward_models: dict[str, float]
    reward_args: RewardArgs
    max_unscorable_rate: float
    num_generations: int
    max_completion_length: int
    temperature: float
    top_p: float
    beta: float
    use_bias_correction_kl: bool
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo"]
    importance_sampling_level: Literal["token", "sequence"]
    scale_rewards: Literal["group", "batch", "none"]
    epsilon: float
    epsilon_high: float | None
    num_iterations: int
    steps_per_generation: int | None
    max_num_gen_batches: int | None
    sync_ref_model: bool
    ref_model_sync_steps: int
    ref_model_mixup_alpha: float
    mask_truncated_completions: bool
    max_steps: int
    learning_rate: float
    lr_scheduler_type: Schedule
    min_lr_rate: float
    warmup_steps: float
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    weight_decay: float
    max_grad_norm: float
    use_liger_kernel: bool
    share_prompts: bool
    gradient_checkpointing: bool
    logging_steps: int
    save_steps: int | None
    use_vllm: bool
    vllm_mode: Literal["colocate", "server"]
    vllm_gpu_memory_utilization: float
    vllm_tensor_parallel_size: int
    vllm_max_model_length: int | None
    vllm_importance_sampling_correction: bool
    vllm_importance_sampling_mode: Literal[
        "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"
    ]
    vllm_importance_sampling_clip_max: float | None
    vllm_importance_sampling_clip_min: float | None

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        remedy = "artifacts/sft, or artifacts/base for R1-Zero's way"
        check_artifact("grpo.model", self.model, remedy)
        check_artifact("grpo.prompts", self.prompts, "artifacts/prompts/rl.jsonl")
        check_training("grpo", self, positive=["temperature"])
        self._check_rewards()
        self._check_group()
        for key in ("beta", "epsilon"):
            if getattr(self, key) < 0:
                raise ValueError(f"grpo.{key} must be >= 0, not {getattr(self, key)}")
        counts = ("max_completion_length", "num_iterations", "max_steps")
        for key in (*counts, "vllm_tensor_parallel_size", "ref_model_sync_steps"):
            if getattr(self, key) < 1:
                raise ValueError(f"grpo.{key} must be >= 1, not {getattr(self, key)}")
        for key in ("top_p", "vllm_gpu_memory_utilization"):
            if not 0 < getattr(self, key) <= 1:
                raise ValueError(f"grpo.{key} must be in (0, 1], not {getattr(self, key)}")
        self._check_clip_and_reference()
        self._check_vllm_correction()
        self._check_dynamic_sampling()
        self._check_shared_prompts()

    def _check_rewards(self) -> None:
        for name in self.rewards:
            if name not in REWARDS:
                near = get_close_matches(name, REWARDS, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(REWARDS)}"
                raise ValueError(f"grpo.rewards: there is no {name!r}: {hint}")
        weights = [*self.rewards.values(), *self.reward_models.values()]
        if sum(abs(weight) for weight in weights) == 0:
            raise ValueError("grpo.rewards must give at least one reward a weight other than 0")
        self._check_reward_models()
        if not 0 <= self.max_unscorable_rate <= 1:
            raise ValueError(
                f"grpo.max_unscorable_rate must be in [0, 1], not {self.max_unscorable_rate}: it "
                f"is a share of completions"
            )

    def _check_reward_models(self) -> None:
        for folder in self.reward_models:
            remedy = "the folder of a reward model, which the stage preference writes"
            check_artifact("grpo.reward_models", folder, remedy)
        names = [Path(folder).name for folder in self.reward_models]
        for name in names:
            if names.count(name) > 1 or name in REWARDS:
                raise ValueError(
                    f"grpo.reward_models: {name!r} is the last part of two folders or a reward's "
                    f"name, and TRL's curves are named so: use another folder"
                )

    def _check_group(self) -> None:
        if self.num_generations < 2:  # noqa: PLR2004 - a pair
            raise ValueError(
                f"grpo.num_generations must be >= 2, not {self.num_generations}: a completion's "
                f"advantage is its reward against the others of its group"
            )
        if self.passes_per_generation < 1:
            raise ValueError(
                f"grpo.steps_per_generation must be >= 1, or null for one step's, not "
                f"{self.steps_per_generation}"
            )
        if self.generation_batch_size % self.num_generations:
            raise ValueError(
                f"grpo.num_generations ({self.num_generations}) must divide "
                f"per_device_train_batch_size x num_processes x steps_per_generation (null: x "
                f"gradient_accumulation_steps), which is {self.generation_batch_size}: whole "
                f"groups are sampled"
            )
        # Else a run that goes on samples the rest of a batch anew, with a policy of a later step.
        num_passes = self.passes_per_generation * self.num_iterations
        num_steps = num_passes // gcd(num_passes, self.gradient_accumulation_steps)
        if self.save_steps is not None and self.save_steps % num_steps:
            raise ValueError(
                f"grpo.save_steps must be a multiple of {num_steps}, or null, not "
                f"{self.save_steps}: a batch of completions lasts steps_per_generation x "
                f"num_iterations = {num_passes} passes of gradient_accumulation_steps "
                f"({self.gradient_accumulation_steps}) a step, and checkpoints hold no completions"
            )

    def _check_clip_and_reference(self) -> None:
        if self.epsilon_high is not None and self.epsilon_high < self.epsilon:
            raise ValueError(
                f"grpo.epsilon_high must be >= epsilon ({self.epsilon}), or null for the same, not "
                f"{self.epsilon_high}"
            )
        if self.loss_type == "cispo" and (self.epsilon_high is None or self.epsilon_high < 1):
            raise ValueError(
                f"grpo.epsilon_high must be >= 1 with loss_type cispo, not {self.epsilon_high}: it "
                f"is the cap of the ratio itself there, and that is 1 on policy; ScaleRL has 5.0"
            )
        if not 0 < self.ref_model_mixup_alpha <= 1:
            raise ValueError(
                f"grpo.ref_model_mixup_alpha must be in (0, 1], not {self.ref_model_mixup_alpha}: "
                f"1.0 replaces the reference by the policy"
            )
        if self.sync_ref_model and self.beta == 0:
            raise ValueError(
                "grpo.sync_ref_model is true and beta is 0: there is no reference model then; set "
                "one of them otherwise"
            )

    def _check_dynamic_sampling(self) -> None:
        if self.max_num_gen_batches is None:
            return
        if self.max_num_gen_batches < 2:  # noqa: PLR2004 - the first, and one more
            raise ValueError(
                f"grpo.max_num_gen_batches must be >= 2, or null for no dynamic sampling, not "
                f"{self.max_num_gen_batches}: the first batch counts"
            )
        if self.scale_rewards == "batch":
            raise ValueError(
                "grpo.max_num_gen_batches needs scale_rewards group or none: a batch's standard "
                "deviation is not that of the groups which are kept of several"
            )
        part = self.generation_batch_size // self.num_processes
        if part % self.num_generations:
            raise ValueError(
                f"grpo.max_num_gen_batches needs whole groups in each process: num_generations "
                f"({self.num_generations}) must divide per_device_train_batch_size x "
                f"steps_per_generation (null: x gradient_accumulation_steps), which is {part}"
            )

    def _check_shared_prompts(self) -> None:
        if self.share_prompts and self.attn_implementation != "sdpa":
            raise ValueError(
                f"grpo.share_prompts is true, but attn_implementation {self.attn_implementation} "
                f"takes no mask of its own: set it to sdpa, or share_prompts to false"
            )
        if self.share_prompts and self.use_liger_kernel:
            raise ValueError(
                "grpo.share_prompts and use_liger_kernel are true, and each computes the "
                "log-probabilities its own way: set one of them to false"
            )

    def _check_vllm_correction(self) -> None:
        low, high = self.vllm_importance_sampling_clip_min, self.vllm_importance_sampling_clip_max
        key = "grpo.vllm_importance_sampling_clip"
        if (low is not None and low < 0) or (high is not None and high <= 0):
            raise ValueError(
                f"{key}_min ({low}) must be >= 0 and {key}_max ({high}) > 0, or null: they bound a "
                f"ratio of probabilities"
            )
        if low is not None and high is not None and low >= high:
            raise ValueError(f"{key}_min ({low}) must be below {key}_max ({high}), or null")
        if self.vllm_importance_sampling_mode.endswith("truncate") and low is None and high is None:
            raise ValueError(
                f"grpo.vllm_importance_sampling_mode {self.vllm_importance_sampling_mode} has "
                f"nothing to truncate at: set {key}_max, such as 3.0, or {key}_min"
            )

    @property
    def passes_per_generation(self) -> int:
        """Returns on how many passes of each process one batch of completions is spent."""
        if self.steps_per_generation is None:
            return self.gradient_accumulation_steps
        return self.steps_per_generation

    @property
    def generation_batch_size(self) -> int:
        """Returns how many completions all processes sample at once."""
        return self.per_device_train_batch_size * self.num_processes * self.passes_per_generation


@dataclass(frozen=True, kw_only=True, slots=True)
class GrpoInputs:
    """The paths that `grpo` reads, relative to the repository root."""

    model: Path
    prompts: Path
    reward_models: list[Path]


def inputs(params: GrpoParams, cell: Cell) -> GrpoInputs:
    """Returns the input paths."""
    del cell
    return GrpoInputs(
        model=Path(params.model),
        prompts=Path(params.prompts),
        reward_models=[Path(folder) for folder in sorted(params.reward_models)],
    )
