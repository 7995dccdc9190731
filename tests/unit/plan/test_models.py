"""Shapes and sizes against what is published of the models."""

from __future__ import annotations

import pytest

from stages._plan import models
from stages._plan.memory import kv_bytes_per_token


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (models.SMOLLM2_135M, 134_515_008),  # metrics/fetch.json
        (models.QWEN_1_5B, 1.54e9),  # the models' cards
        (models.QWEN_7B, 7.61e9),
        (models.QWEN_32B, 32.5e9),
        (models.LLAMA_8B, 8.03e9),
        (models.LLAMA_70B, 70.6e9),
    ],
)
def test_parameters_follow_from_the_shape(model: models.Model, parameters: float) -> None:
    assert model.parameters == pytest.approx(parameters, rel=0.01)


def test_experts_of_deepseek_v3_leave_its_dense_part() -> None:
    dense = models.DEEPSEEK_V3.parameters - models.DEEPSEEK_V3.expert_parameters
    assert dense == pytest.approx(17.1e9, rel=0.01)
    assert dense < models.DEEPSEEK_V3.active_parameters


def test_cache_of_a_token() -> None:
    assert kv_bytes_per_token(models.LLAMA_8B) == 131_072  # 2 x 8 heads x 128 x 32 layers x 2 bytes
    assert kv_bytes_per_token(models.DEEPSEEK_V3) == 576 * 61 * 2


def test_unknown_model_is_named_with_the_nearest() -> None:
    assert models.find_model("Qwen/Qwen2.5-32B") is models.QWEN_32B
    with pytest.raises(ValueError, match="no shape of 'Qwen/Qwen2.5-23B'.*nearest is 'Qwen/Qwen2"):
        models.find_model("Qwen/Qwen2.5-23B")
