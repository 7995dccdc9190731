"""Bytes per GPU: weights, gradients, optimiser, activations, logits, and the cache of keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stages._plan.hardware import ASSUMED

if TYPE_CHECKING:
    from stages._plan.models import Model

Distributed = Literal["none", "ddp", "zero2", "zero3"]
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingMemory:
    """Bytes per GPU of a training process, by what they hold."""

    weights: float
    gradients: float
    optimiser: float
    activations: float
    logits: float
    workspace: float

    @property
    def total(self) -> float:
        """Returns the sum, in bytes."""
        return (
            self.weights
            + self.gradients
            + self.optimiser
            + self.activations
            + self.logits
            + self.workspace
        )


def model_state(
    model: Model, distributed: Distributed, num_processes: int, dtype: str
) -> tuple[float, float, float]:
    """Returns the bytes per GPU of weights, gradients and AdamW's states.

    Source: ZeRO, arXiv:1910.02054, section 3. DeepSpeed keeps bfloat16 weights and gradients (2 + 2
    bytes per parameter), and float32 weights and both moments (12), of which ZeRO-2 shards the last
    two kinds over N processes, and ZeRO-3 all. Without DeepSpeed all four have the weights' type.
    """
    size = DTYPE_BYTES[dtype]
    count, shards = model.parameters, num_processes
    if distributed in {"none", "ddp"}:
        return size * count, size * count, 2 * size * count
    weights = 2 * count / (shards if distributed == "zero3" else 1)
    return weights, 2 * count / shards, 12 * count / shards


def activation_bytes_per_token(model: Model, *, is_fused: bool) -> float:
    """Returns the bytes that one layer keeps per token for its backward pass, at 2 bytes each.

    Counted as in arXiv:2205.05198, section 4.1, for a layer with flash attention (no s x s matrix),
    grouped queries and SwiGLU: D each for the inputs of both norms, of the projections and of the
    feed-forward part, A each for queries and the attention's output, K for keys and values, F each
    for gate, up, SiLU and product (fused kernels compute two of these again).
    """
    attention = 8 * model.hidden + 4 * model.attention_width + 2 * model.kv_width
    return attention + (4 if is_fused else 8) * model.feed_forward


def activations(
    model: Model, tokens: int, *, gradient_checkpointing: bool, is_fused: bool
) -> float:
    """Returns the bytes of `tokens` in a pass; checkpointing keeps 2 D per layer, and one layer."""
    layer = activation_bytes_per_token(model, is_fused=is_fused)
    if gradient_checkpointing:
        return tokens * (2 * model.hidden * model.layers + layer)
    return tokens * layer * model.layers


def logits(model: Model, tokens: int, *, is_chunked: bool) -> float:
    """Returns the bytes of the logits: bfloat16, a float32 copy and its gradient, 10 per number.

    In chunks as Liger's fused loss makes them, of tokens x D / V, there are only one chunk's, and
    the gradient of the hidden states (2 D per token).
    """
    if not is_chunked:
        return 10.0 * tokens * model.vocabulary
    chunk = max(1.0, tokens * model.hidden / model.vocabulary)
    return 10.0 * chunk * model.vocabulary + 2.0 * tokens * model.hidden


def training_memory(
    model: Model,
    *,
    distributed: Distributed,
    num_processes: int,
    dtype: str,
    tokens_per_pass: int,
    logit_tokens: int | None = None,
    gradient_checkpointing: bool,
    is_fused: bool,
    is_chunked: bool,
) -> TrainingMemory:
    """Returns the bytes per GPU; ZeRO-3 gathers two layers (or the embedding) besides its shard."""
    weights, gradients, optimiser = model_state(model, distributed, num_processes, dtype)
    if distributed == "zero3":
        layer = (model.parameters - 2 * model.vocabulary * model.hidden) / model.layers
        weights += 2 * max(2 * layer, model.vocabulary * model.hidden)
    return TrainingMemory(
        weights=weights,
        gradients=gradients,
        optimiser=optimiser,
        activations=activations(
            model, tokens_per_pass, gradient_checkpointing=gradient_checkpointing, is_fused=is_fused
        ),
        logits=logits(model, logit_tokens or tokens_per_pass, is_chunked=is_chunked),
        workspace=ASSUMED.workspace_bytes,
    )


def kv_bytes_per_token(model: Model, dtype_bytes: int = 2) -> float:
    """Returns the bytes that a token takes in the cache, on all GPUs together: K x L numbers."""
    return float(model.kv_width * model.layers * dtype_bytes)


def num_cached_sequences(
    model: Model,
    *,
    budget_bytes: float,
    weight_bytes: float,
    context_tokens: float,
    tensor_parallel: int = 1,
) -> float:
    """Returns how many sequences of `context_tokens` fit beside the weights of one replica.

    budget_bytes: of one GPU, for weights and cache; weight_bytes: of the weights on one GPU. The
    cache is spread over the tensor-parallel group, but a latent (MLA) is on each of its GPUs.
    """
    gpus = 1 if model.is_latent else tensor_parallel
    free = (budget_bytes - weight_bytes) * gpus
    return max(0.0, free / (kv_bytes_per_token(model) * context_tokens))
