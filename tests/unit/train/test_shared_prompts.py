"""A prompt that is computed once for its completions gives TRL's values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import selective_log_softmax_and_entropy

from stages.grpo.shared_prompts import measure_logps, share

TEMPERATURE = 0.7
NUM_COLUMNS = 4
# Two prompts, one on the left of padding, with completions of 3, 1, 4 and 0 tokens, and of 2.
A, B = [0, 7, 8], [4, 5, 6]
ROWS = [
    ([*A, 11, 12, 13, 0], [0, 1, 1, 1, 1, 1, 0]),
    ([*B, 21, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0]),
    ([*A, 14, 15, 16, 17], [0, 1, 1, 1, 1, 1, 1]),
    ([*A, 18, 19, 0, 0], [0, 1, 1, 0, 0, 0, 0]),  # masked, as a truncated one
    ([*B, 22, 23, 0, 0], [1, 1, 1, 1, 1, 0, 0]),
]


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Returns ids and mask."""
    ids, mask = zip(*ROWS, strict=True)
    return torch.tensor(ids), torch.tensor(mask)


@pytest.fixture
def model() -> Any:
    """Returns a small model with grouped queries, in double precision but for its norms."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).double()


def test_rows_hold_each_prompt_once(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    shared = share(*batch, NUM_COLUMNS)
    assert shared.input_ids.tolist() == [[0, 7, 8, 11, 12, 14, 15, 16], [4, 5, 6, 22, 0, 0, 0, 0]]
    assert shared.position_ids.tolist() == [[0, 0, 1, 2, 3, 2, 3, 4], [0, 1, 2, 3, 0, 0, 0, 0]]
    assert shared.logits_to_keep == 6  # from 8 and 6 on
    assert shared.labels.tolist() == [11, 12, 13, 21, 14, 15, 16, 17, 22, 23]
    assert shared.rows.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 1, 1]
    assert shared.columns.tolist() == [0, 1, 2, 0, 0, 3, 4, 5, 0, 1]


def test_a_completion_sees_its_prompt_and_itself(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    seen = share(*batch, NUM_COLUMNS).attention_mask[0, 0]
    assert torch.nonzero(seen[4]).flatten().tolist() == [1, 2, 3, 4]
    assert torch.nonzero(seen[6]).flatten().tolist() == [1, 2, 5, 6]
    assert torch.nonzero(seen[2]).flatten().tolist() == [1, 2]
    assert seen.diagonal().all()  # no row without a value: it would be nan


def test_values_and_gradients_are_those_of_separate_rows(
    batch: tuple[torch.Tensor, torch.Tensor], model: Any
) -> None:
    ids, mask = batch
    is_token = mask[:, -NUM_COLUMNS:].bool()
    weights = torch.randn(is_token.shape, dtype=torch.float64)

    def gradients(logps: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        (logps * weights)[is_token].sum().backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters()}

    # TRL's way, with positions that do not count padding, which rotary embeddings cannot tell.
    logits = model(ids, attention_mask=mask, logits_to_keep=NUM_COLUMNS + 1).logits[:, :-1]
    logps, entropies = selective_log_softmax_and_entropy(
        logits, ids[:, -NUM_COLUMNS:], entropy_requires_grad=False, temperature=TEMPERATURE
    )
    expected = gradients(logps)
    ours, our_entropies = measure_logps(
        model, ids, mask, NUM_COLUMNS, TEMPERATURE, compute_entropy=True
    )
    assert our_entropies is not None
    torch.testing.assert_close(ours, logps.masked_fill(~is_token, 0))
    torch.testing.assert_close(our_entropies, entropies.masked_fill(~is_token, 0))
    assert not our_entropies.requires_grad
    found = gradients(ours)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        # Llama's norms compute in single precision.
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)
    alone, nothing = measure_logps(
        model, ids, mask, NUM_COLUMNS, TEMPERATURE, compute_entropy=False
    )
    assert nothing is None
    assert torch.equal(alone, ours)


def test_batch_without_a_token_has_a_gradient_of_zero(model: Any) -> None:
    ids, mask = torch.tensor([[4, 5, 11], [4, 5, 12]]), torch.tensor([[1, 1, 0], [1, 1, 0]])
    logps, _ = measure_logps(model, ids, mask, 1, TEMPERATURE, compute_entropy=True)
    logps.sum().backward()
    assert logps.tolist() == [[0.0], [0.0]]
    assert all(not weight.grad.any() for weight in model.parameters() if weight.grad is not None)
