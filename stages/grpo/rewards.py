"""Verifiable rewards, by the names that params.yaml gives them weights under.

Each takes TRL's conversational completions (one list of messages per completion) and the columns
of the data set, and returns one float per completion: 1.0 or 0.0. DeepSeek-R1, section 2.2.2, has
the same two, accuracy and format; deviations:

1. The format is checked on the whole completion, which must hold nothing else.
2. An answer counts only inside the format: R1 asks for a box instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.filter.verify import is_correct, parse

if TYPE_CHECKING:
    from collections.abc import Callable

Completions = list[list[dict[str, str]]]


def accuracy(completions: Completions, answer: list[str], **columns: object) -> list[float]:
    """Returns 1.0 where the completion is in the format and its answer equals the reference."""
    del columns
    texts = [completion[0]["content"] for completion in completions]
    return [float(is_correct(text, gold)) for text, gold in zip(texts, answer, strict=True)]


def format(completions: Completions, **columns: object) -> list[float]:  # noqa: A001 - R1's name
    """Returns 1.0 where the whole completion is one think block and one answer block."""
    del columns
    return [float(parse(completion[0]["content"]) is not None) for completion in completions]


REWARDS: dict[str, Callable[..., list[float]]] = {"accuracy": accuracy, "format": format}


def choose(weights: dict[str, float]) -> tuple[list[Callable[..., list[float]]], list[float]]:
    """Returns the reward functions, ordered by name, and their weights, as TRL takes them.

    All of them are always computed, those without a weight too, so that their curves are logged.
    """
    names = sorted(REWARDS)
    return [REWARDS[name] for name in names], [weights.get(name, 0.0) for name in names]
