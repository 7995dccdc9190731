"""Bytes per GPU, by hand for small shapes and against configurations that are known to run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stages._plan.hardware import H100
from stages._plan.memory import (
    activations,
    logits,
    model_state,
    num_cached_sequences,
    training_memory,
)
from stages._plan.models import DEEPSEEK_V3, QWEN_7B, QWEN_32B
from tests.unit.plan.toy import TOY

SFT: dict[str, Any] = {
    "distributed": "zero3",
    "num_processes": 8,
    "dtype": "bfloat16",
    "tokens_per_pass": 2 * 32_768,
    "gradient_checkpointing": True,
    "is_fused": True,
    "is_chunked": True,
}


def test_sixteen_bytes_per_parameter_whoever_holds_them() -> None:
    """ZeRO's own numbers: 120, 16.6 and 1.9 GB for 7.5 billion parameters on 64 processes."""
    model = replace(QWEN_7B, parameters=7.5e9)
    assert sum(model_state(model, "zero3", 1, "bfloat16")) == pytest.approx(120e9)
    assert sum(model_state(model, "zero2", 64, "bfloat16")) == pytest.approx(16.6e9, rel=0.01)
    assert sum(model_state(model, "zero3", 64, "bfloat16")) == pytest.approx(1.9e9, rel=0.02)
    assert model_state(model, "ddp", 64, "float32") == (30e9, 30e9, 60e9)


def test_activations_of_a_toy_by_hand() -> None:
    layer = 8 * 8 + 4 * 8 + 2 * 4 + 8 * 16
    assert activations(TOY, 3, gradient_checkpointing=False, is_fused=False) == 3 * 2 * layer
    kept = 3 * (2 * 8 * 2 + layer)
    assert activations(TOY, 3, gradient_checkpointing=True, is_fused=False) == kept
    fused = 3 * (2 * 8 * 2 + layer - 4 * 16)
    assert activations(TOY, 3, gradient_checkpointing=True, is_fused=True) == fused


def test_logits_dominate_unless_they_are_chunked() -> None:
    assert logits(TOY, 50, is_chunked=False) == 10 * 50 * 100
    assert logits(TOY, 50, is_chunked=True) == 10 * (50 * 8 / 100) * 100 + 2 * 50 * 8
    assert logits(QWEN_7B, 65_536, is_chunked=False) > H100.memory_bytes
    assert logits(QWEN_7B, 65_536, is_chunked=True) < 3e9


def test_open_r1_s_published_configuration_fits_and_is_no_waste() -> None:
    """OpenR1-Distill-7B: 2 x 32,768 tokens per GPU on 8 H100, ZeRO-3, Liger, checkpointing."""
    total = training_memory(QWEN_7B, **SFT).total
    assert 0.4 * H100.memory_bytes < total < H100.memory_bytes
    for worse in ({"is_chunked": False}, {"gradient_checkpointing": False}):
        assert training_memory(QWEN_7B, **(SFT | worse)).total > H100.memory_bytes


def test_a_32b_needs_more_than_a_node() -> None:
    alone = training_memory(QWEN_32B, **(SFT | {"tokens_per_pass": 32_768})).total
    spread = SFT | {"tokens_per_pass": 32_768, "num_processes": 64}
    assert alone > H100.memory_bytes > training_memory(QWEN_32B, **spread).total


def test_a_latent_cache_is_not_spread_by_tensor_parallelism() -> None:
    room: dict[str, Any] = {"budget_bytes": 72e9, "weight_bytes": 42e9, "context_tokens": 4000}
    one = num_cached_sequences(DEEPSEEK_V3, **room)
    assert num_cached_sequences(DEEPSEEK_V3, tensor_parallel=16, **room) == one
    assert num_cached_sequences(QWEN_7B, tensor_parallel=2, **room) == 2 * num_cached_sequences(
        QWEN_7B, **room
    )
    assert num_cached_sequences(QWEN_7B, **(room | {"weight_bytes": 80e9})) == 0
