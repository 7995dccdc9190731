"""Tokens per second: FLOPs for training and reading, bandwidth of the memory for writing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages._plan.hardware import ASSUMED, H100
from stages._plan.memory import kv_bytes_per_token, num_cached_sequences

if TYPE_CHECKING:
    from stages._plan.hardware import Efficiency, Gpu
    from stages._plan.models import Model


def forward_flops_per_token(model: Model, context_tokens: float) -> float:
    """Returns the FLOPs of a token's forward pass.

    2 per active parameter (arXiv:2001.08361, section 2.1), and 4 x L x A x context / 2 for scores
    and weighted values, of which a causal mask needs half on average.
    """
    attention = 2 * model.layers * model.attention_width * context_tokens
    return 2 * model.active_parameters + attention


def training_flops_per_token(model: Model, context_tokens: float) -> float:
    """Returns the FLOPs of a token's forward and backward pass: three forward passes."""
    return 3 * forward_flops_per_token(model, context_tokens)


def training_tokens_per_s(
    model: Model, context_tokens: float, gpu: Gpu = H100, efficiency: Efficiency = ASSUMED
) -> float:
    """Returns the tokens per second of one of the GPUs that train, at the MFU that is assumed."""
    return gpu.peak_flops * efficiency.mfu / training_flops_per_token(model, context_tokens)


def forward_tokens_per_s(
    model: Model, context_tokens: float, gpu: Gpu = H100, efficiency: Efficiency = ASSUMED
) -> float:
    """Returns the tokens per second of one GPU that reads: prompts, or for log-probabilities."""
    return gpu.peak_flops * efficiency.forward_mfu / forward_flops_per_token(model, context_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Replica:
    """A model in an inference engine: what its GPUs read per decoding step.

    gpus: that compute a step together; for experts in parallel that of one group.
    max_sequences: that it computes at once, all its GPUs together.
    """

    model: Model
    gpus: int
    weight_bytes: float  # per GPU
    max_sequences: float
    is_expert_parallel: bool = False

    def step_s(
        self,
        sequences: float,
        context_tokens: float,
        gpu: Gpu = H100,
        efficiency: Efficiency = ASSUMED,
    ) -> float:
        """Returns the seconds of a step that writes one token of each sequence.

        The longer of reading (weights and caches, at the bandwidth that is used) and computing; the
        exchanges with experts on other nodes (8-bit to and 16-bit from each), the latency of two
        all-reduces per layer in a tensor-parallel group, and the overhead come on top.
        """
        copies = self.gpus if self.model.is_latent and not self.is_expert_parallel else 1
        cache = sequences * context_tokens * kv_bytes_per_token(self.model) * copies / self.gpus
        read = (self.weight_bytes + cache) / (gpu.bandwidth * efficiency.bandwidth_use)
        flops = sequences * forward_flops_per_token(self.model, 2 * context_tokens) / self.gpus
        compute = flops / (gpu.peak_flops * efficiency.forward_mfu)
        exchange = 0.0
        if self.is_expert_parallel:
            bytes_per_token = 3 * self.model.hidden * self.model.experts_per_token
            sent = sequences / self.gpus * bytes_per_token * self.model.layers
            exchange = sent / (gpu.network * efficiency.network_use)
        elif self.gpus > 1:
            exchange = 2 * self.model.layers * efficiency.collective_s
        return max(read, compute) + exchange + efficiency.step_overhead_s

    def tokens_per_s(
        self,
        sequences: float,
        context_tokens: float,
        gpu: Gpu = H100,
        efficiency: Efficiency = ASSUMED,
    ) -> float:
        """Returns the tokens per second of the whole replica."""
        return sequences / self.step_s(sequences, context_tokens, gpu, efficiency)


def make_replica(
    model: Model,
    *,
    tensor_parallel: int,
    context_tokens: float,
    max_num_seqs: float = 256,
    memory_use: float = 0.9,
    weight_size: int = 2,
    gpu: Gpu = H100,
) -> Replica:
    """Returns a replica of `tensor_parallel` GPUs, with as many sequences as its cache holds.

    Raises:
        ValueError: the weights leave no room for one sequence; says how many GPUs would do.
    """
    weights = model.parameters * weight_size / tensor_parallel
    sequences = num_cached_sequences(
        model,
        budget_bytes=gpu.memory_bytes * memory_use,
        weight_bytes=weights,
        context_tokens=context_tokens,
        tensor_parallel=tensor_parallel,
    )
    if sequences < 1:
        raise ValueError(
            f"{model.name} on {tensor_parallel} {gpu.name} leaves no room for a sequence of "
            f"{context_tokens:.0f} tokens: double the tensor-parallel size, or raise "
            f"gpu_memory_utilization ({memory_use})"
        )
    return Replica(
        model=model,
        gpus=tensor_parallel,
        weight_bytes=weights,
        max_sequences=min(sequences, max_num_seqs),
    )


def make_expert_replica(
    model: Model,
    *,
    gpus: int,
    context_tokens: float,
    copies_of_experts: float = 1.125,
    memory_use: float = 0.9,
    max_sequences_per_gpu: float = 256,
    gpu: Gpu = H100,
) -> Replica:
    """Returns a group whose experts are spread over `gpus`, in 8 bits; all else is on each.

    copies_of_experts: with those that are there twice, to balance the load; DeepSeek's 288 of 256.
    """
    routed = model.expert_parameters * copies_of_experts / gpus
    weights = routed + (model.parameters - model.expert_parameters)
    sequences = num_cached_sequences(
        model,
        budget_bytes=gpu.memory_bytes * memory_use,
        weight_bytes=weights,
        context_tokens=context_tokens,
    )
    return Replica(
        model=model,
        gpus=gpus,
        weight_bytes=weights,
        max_sequences=min(sequences, max_sequences_per_gpu) * gpus,
        is_expert_parallel=True,
    )
