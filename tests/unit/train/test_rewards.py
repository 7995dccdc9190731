"""Rewards are verifiable: 1.0 or 0.0, and never more for less."""

from __future__ import annotations

import pytest

from stages.grpo.rewards import accuracy, choose, format

TEXTS = {
    "<think>1 + 2 = 3</think><answer>3</answer>": (1.0, 1.0),
    "<think>1 + 2 = 4</think><answer>4</answer>": (0.0, 1.0),
    "3": (0.0, 0.0),
    "<think>1</think><answer>3</answer> and more": (0.0, 0.0),
    "<think>1</think><answer>1 + 2</answer>": (0.0, 1.0),
}


def test_rewards_of_completions() -> None:
    completions = [[{"role": "assistant", "content": text}] for text in TEXTS]
    answers = ["3"] * len(completions)
    ids = ["p"] * len(completions)
    assert accuracy(completions, answer=answers, id=ids) == [pair[0] for pair in TEXTS.values()]
    assert format(completions, answer=answers, id=ids) == [pair[1] for pair in TEXTS.values()]


def test_reference_that_cannot_be_parsed_stops_the_training() -> None:
    with pytest.raises(ValueError, match="cannot be parsed"):
        accuracy([[{"role": "assistant", "content": "3"}]], answer=["what?"])


def test_every_reward_is_computed_and_the_weights_keep_their_names() -> None:
    functions, weights = choose({"format": 0.2})
    assert [function.__name__ for function in functions] == ["accuracy", "format"]
    assert weights == [0.0, 0.2]
