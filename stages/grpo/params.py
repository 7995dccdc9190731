"""Parameters of `grpo`; the names are TRL's `GRPOConfig`'s own.

Standard library only: the graph is read without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stages._contract.determinism import CpuIsa  # noqa: TC001 - the loader reads the types

_REWARDS = ("accuracy", "format")


@dataclass(frozen=True, kw_only=True, slots=True)
class GrpoParams:
    """What `grpo` reads from params.yaml; the comments there give sources and roles."""

    seed: int
    num_threads: int
    cpu_isa: CpuIsa
    dtype: Literal["float32", "bfloat16"]
    attn_implementation: Literal["sdpa", "flash_attention_2"]
    rewards: dict[str, float]
    num_generations: int
    max_completion_length: int
    temperature: float
    top_p: float
    beta: float
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"]
    scale_rewards: Literal["group", "batch", "none"]
    epsilon: float
    num_iterations: int
    mask_truncated_completions: bool
    max_steps: int
    learning_rate: float
    lr_scheduler_type: Literal["constant", "constant_with_warmup", "linear", "cosine"]
    warmup_steps: float
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    weight_decay: float
    max_grad_norm: float
    gradient_checkpointing: bool
    logging_steps: int
    save_steps: int | None
    use_vllm: bool
    vllm_mode: Literal["colocate", "server"]
    vllm_gpu_memory_utilization: float
    vllm_tensor_parallel_size: int

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        self._check_rewards()
        self._check_group()
        for key in ("temperature", "learning_rate", "max_grad_norm"):
            if getattr(self, key) <= 0:
                raise ValueError(f"grpo.{key} must be > 0, not {getattr(self, key)}")
        for key in ("beta", "epsilon", "warmup_steps", "weight_decay"):
            if getattr(self, key) < 0:
                raise ValueError(f"grpo.{key} must be >= 0, not {getattr(self, key)}")
        counts = ("num_threads", "max_completion_length", "num_iterations", "max_steps")
        for key in (*counts, "logging_steps", "vllm_tensor_parallel_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"grpo.{key} must be >= 1, not {getattr(self, key)}")
        for key in ("top_p", "vllm_gpu_memory_utilization"):
            if not 0 < getattr(self, key) <= 1:
                raise ValueError(f"grpo.{key} must be in (0, 1], not {getattr(self, key)}")
        if self.save_steps is not None and self.save_steps < 1:
            raise ValueError(
                f"grpo.save_steps must be >= 1, or null for no checkpoints, not {self.save_steps}"
            )

    def _check_rewards(self) -> None:
        for name in self.rewards:
            if name not in _REWARDS:
                raise ValueError(f"grpo.rewards has no {name!r}; there are {', '.join(_REWARDS)}")
        if sum(abs(weight) for weight in self.rewards.values()) == 0:
            raise ValueError("grpo.rewards must give at least one reward a weight other than 0")

    def _check_group(self) -> None:
        for key in ("per_device_train_batch_size", "gradient_accumulation_steps"):
            if getattr(self, key) < 1:
                raise ValueError(f"grpo.{key} must be >= 1, not {getattr(self, key)}")
        if self.num_generations < 2:  # noqa: PLR2004 - a pair
            raise ValueError(
                f"grpo.num_generations must be >= 2, not {self.num_generations}: a completion's "
                f"advantage is its reward against the others of its group"
            )
        num = self.per_device_train_batch_size * self.gradient_accumulation_steps
        if num % self.num_generations:
            raise ValueError(
                f"grpo.num_generations ({self.num_generations}) must divide "
                f"per_device_train_batch_size x gradient_accumulation_steps ({num}): a step takes "
                f"whole groups"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class GrpoInputs:
    """The paths that `grpo` reads, relative to the repository root."""

    model: Path
    prompts: Path


def inputs(params: GrpoParams, **cell: str) -> GrpoInputs:
    """Returns the input paths."""
    del params, cell
    return GrpoInputs(model=Path("artifacts/sft"), prompts=Path("artifacts/prompts/rl.jsonl"))


def out(**cell: str) -> Path:
    """Returns the folder of the trained model, relative to the repository root."""
    del cell
    return Path("artifacts/grpo")


def metrics(**cell: str) -> dict[str, Path]:
    """Returns the metrics files by name, relative to the repository root."""
    del cell
    return {"grpo": Path("metrics/grpo.json")}
