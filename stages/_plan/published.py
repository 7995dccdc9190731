"""Published figures, and what the model says of the same: how far it may be trusted.

A ratio is predicted / published. Nothing is fitted to them but the assumptions of hardware.py,
which were chosen once, in round numbers, with the first four rows in view.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stages._plan.hardware import ASSUMED
from stages._plan.models import DEEPSEEK_V3, LLAMA_8B, LLAMA_70B, QWEN_7B
from stages._plan.speed import (
    make_expert_replica,
    make_replica,
    training_flops_per_token,
)
from stages._plan.workload import (
    SIGMA,
    TRACE_TOKENS,
    Setup,
    sampling_hours,
    update_outcome,
    zero_hours,
)

# Large mixtures of experts reach less: NeMo AutoModel publishes 250 TFLOP/s for DeepSeek-V3.
MOE = replace(ASSUMED, mfu=0.25, forward_mfu=0.3)
ZERO_GPUS = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One published figure and the model's."""

    what: str
    unit: str
    published: float
    predicted: float
    source: str
    note: str = ""

    @property
    def ratio(self) -> float:
        """Returns predicted / published."""
        return self.predicted / self.published


def check_all() -> list[Check]:
    """Returns the checks: of training, of decoding, of whole runs."""
    return [*_training(), *_decoding(), *_runs()]


def _training() -> list[Check]:
    nemo = "NVIDIA NeMo AutoModel, performance summary (H100, bfloat16, pre-training)"
    return [
        Check(
            what="FLOPs per trained token, Llama-3 70B, 8,192 tokens",
            unit="GFLOP",
            published=389e12 / 866.77 / 1e9,
            predicted=training_flops_per_token(LLAMA_70B, 8192) / 1e9,
            source=nemo,
            note="389 TFLOP/s at 866.77 tokens/s per GPU",
        ),
        Check(
            what="FLOPs per trained token, DeepSeek-V3, 4,096 tokens",
            unit="GFLOP",
            published=250e12 / 1002 / 1e9,
            predicted=training_flops_per_token(DEEPSEEK_V3, 4096) / 1e9,
            source=nemo,
            note="250 TFLOP/s at 1,002 tokens/s per GPU",
        ),
    ]


def _decoding() -> list[Check]:
    llama = make_replica(LLAMA_8B, tensor_parallel=1, context_tokens=700)
    experts = make_expert_replica(DEEPSEEK_V3, gpus=144, context_tokens=4989)
    tensor = make_replica(
        DEEPSEEK_V3, tensor_parallel=16, context_tokens=TRACE_TOKENS / 2, weight_size=1
    )
    return [
        Check(
            what="decoding, Llama-3.1-8B on one H100",
            unit="tokens/s",
            published=12_500,
            predicted=llama.tokens_per_s(llama.max_sequences, 700),
            source="morphllm.com/vllm-benchmarks (a third party's; gives no lengths)",
            note="256 sequences of 700 tokens assumed",
        ),
        Check(
            what="decoding, DeepSeek-V3/R1 with EP144, per node of 8 H800",
            unit="tokens/s",
            published=14_800,
            predicted=8 / 144 * experts.tokens_per_s(88 * 144, 4989),
            source="DeepSeek-V3/R1 Inference System Overview (2025)",
            note="88 sequences per GPU, from its 20 to 22 tokens/s each; a cache of 4,989 tokens",
        ),
        Check(
            what="sampling from DeepSeek-R1 on 512 H100, per GPU",
            unit="tokens/s",
            published=25 * TRACE_TOKENS / 3600,
            predicted=tensor.tokens_per_s(tensor.max_sequences, TRACE_TOKENS / 2) / 16,
            source="Open-R1, Update 2: 25 solutions per hour and H100",
            note="6,000 tokens each; SGLang, TP16; full batches are assumed, without stragglers",
        ),
    ]


def zero_setup(group: int = 64) -> Setup:
    """Returns R1-Zero's cluster: 512 GPUs that write and train in turn, experts in parallel."""
    return Setup(
        model=DEEPSEEK_V3,
        gpus=ZERO_GPUS,
        tensor_parallel=group,
        is_expert_parallel=True,
        efficiency=MOE,
    )


def best_speedup(gpus: int) -> float:
    """Returns how much faster a 7B trains if rollouts never wait, at the best partition."""
    synchronous = Setup(model=QWEN_7B, gpus=gpus, tensor_parallel=1)
    base = update_outcome(synchronous, TRACE_TOKENS, 32_768).step_s
    others = (
        replace(synchronous, is_asynchronous=True, training_share=share)
        for share in (0.25, 0.375, 0.5, 0.625)
    )
    return base / min(update_outcome(setup, TRACE_TOKENS, 32_768).step_s for setup in others)


def _runs() -> list[Check]:
    nature = "DeepSeek-R1, Nature 645:633 (2025), supplement: training cost"
    return [
        Check(
            what="R1-Zero, 10,400 updates on 512 H800",
            unit="hours",
            published=198,
            predicted=zero_hours(zero_setup()),
            source=nature,
            note=f"lengths by Figure 1b, sigma {SIGMA}; groups of 64 GPUs; H800 taken for H100",
        ),
        Check(
            what="R1's data for supervised fine-tuning",
            unit="GPU hours",
            published=5_000,
            predicted=ZERO_GPUS * sampling_hours(zero_setup()),
            source=nature,
            note="full batches; a pass rate of 0.5 is a guess; judging and rewriting not counted",
        ),
        Check(
            what="asynchronous by synchronous reinforcement learning, 7B on 128 GPUs",
            unit="speed-up",
            published=2.77,
            predicted=best_speedup(128),
            source="AReaL, arXiv:2505.24298 (its best case, on its own tasks and models)",
            note="decides how far the simulation of stragglers may be trusted",
        ),
    ]
