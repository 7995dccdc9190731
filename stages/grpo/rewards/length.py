"""Rewards that depend on a completion's length.

Names, arguments and values are Open-R1's (src/open_r1/rewards.py), but for these deviations, each
with a test:

1. Lengths are in tokens where the trainer passes `completion_ids`, and in characters, without a
   think tag that the template wrote, only where it does not. Open-R1 counts characters always.
2. Correctness is accuracy_reward's: the reference comes first in math-verify's order of arguments,
   and where it cannot be parsed the reward is None, not that of a correct answer.
3. The cosine ends at `max_len`: Open-R1's swings back, so that a correct answer of twice the length
   is worth as much as an empty one.
4. The cosine's values must be in order, so that no wrong answer is worth more than a correct one:
   those of Open-R1's own registry are not.
5. The length reward compares the completions of one prompt, as its paper does, and not those of
   different prompts that happen to share a batch.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from typing import TYPE_CHECKING

from stages.grpo.rewards.accuracy import accuracy_reward
from stages.grpo.rewards.completions import read_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stages.grpo.rewards.completions import Completions, Prompts

    TokenIds = Sequence[Sequence[int]]


def len_reward(
    completions: Completions,
    solution: list[str | None],
    *,
    prompts: Prompts | None = None,
    completion_ids: TokenIds | None = None,
    **columns: object,
) -> list[float | None]:
    """Returns Kimi k1.5's length reward, in [-0.5, 0.5]; None where correctness is None.

    Source: arXiv 2501.12599, section 2.3.3: 0.5 - (length - shortest) / (longest - shortest) over
    the completions of a problem, at most 0 for a wrong one; 0.0 for all if all are equally long.

    Without `prompts` all completions are one group, as in Open-R1. On several processes, each sees
    the part of a group that it generated.

    Args:
        solution: the references, LaTeX with the answer in it.
        completion_ids: the tokens of each completion.
    """
    del columns
    correctness = accuracy_reward(list(completions), solution, prompts=prompts)
    lengths = _measure(completions, completion_ids)
    keys = [""] * len(lengths) if prompts is None else [_identify(prompt) for prompt in prompts]
    groups: dict[str, list[int]] = defaultdict(list)
    for key, length in zip(keys, lengths, strict=True):
        groups[key].append(length)
    return [
        None if correct is None else _score_length(length, groups[key], correct=bool(correct))
        for key, length, correct in zip(keys, lengths, correctness, strict=True)
    ]


def _identify(prompt: object) -> str:
    """Returns a string that two prompts share only if they are equal."""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)


def _score_length(length: int, group: Sequence[int], *, correct: bool) -> float:
    shortest, longest = min(group), max(group)
    if shortest == longest:
        return 0.0
    reward = 0.5 - (length - shortest) / (longest - shortest)
    return reward if correct else min(0.0, reward)


def get_cosine_scaled_reward(
    min_value_wrong: float = -1.0,
    max_value_wrong: float = -0.5,
    min_value_correct: float = 0.5,
    max_value_correct: float = 1.0,
    max_len: int = 1000,
) -> Callable[..., list[float | None]]:
    """Returns a reward of correctness that a cosine over the length scales (arXiv 2502.03373).

    From length 0 to `max_len`, and staying there beyond it, it falls from `max_value_correct` to
    `min_value_correct` for a correct completion, and rises from `min_value_wrong` to
    `max_value_wrong` for a wrong one, which may need more thought. None where correctness is None.
    As in Open-R1, there is no further penalty on reaching `max_len`.

    Args:
        max_len: in tokens, or in characters where the reward gets no `completion_ids`; at least 1.

    Raises:
        ValueError: the values are not in this order, or `max_len` is below 1.
    """
    values = (min_value_wrong, max_value_wrong, min_value_correct, max_value_correct)
    if list(values) != sorted(values):
        raise ValueError(
            f"min_value_wrong, max_value_wrong, min_value_correct, max_value_correct are {values}: "
            f"put them in ascending order, or wrong answers are worth more than they should be"
        )
    if max_len < 1:
        raise ValueError(f"max_len {max_len} must be at least 1: lengths are divided by it")

    def cosine_scaled_reward(
        completions: Completions,
        solution: list[str | None],
        *,
        prompts: Prompts | None = None,
        completion_ids: TokenIds | None = None,
        **columns: object,
    ) -> list[float | None]:
        del columns
        correctness = accuracy_reward(list(completions), solution, prompts=prompts)
        rewards: list[float | None] = []
        for length, correct in zip(_measure(completions, completion_ids), correctness, strict=True):
            # From 1 at length 0 to 0 at max_len.
            short = 0.5 * (1.0 + math.cos(math.pi * min(1.0, length / max_len)))
            at_end, at_start = values[2:] if correct else (max_value_wrong, min_value_wrong)
            rewards.append(None if correct is None else at_end + (at_start - at_end) * short)
        return rewards

    return cosine_scaled_reward


def get_soft_overlong_punishment(
    max_completion_len: int, soft_punish_cache: int
) -> Callable[..., list[float]]:
    """Returns DAPO's punishment of overlong completions (arXiv 2503.14476, equation 13).

    It is 0.0 up to `max_completion_len - soft_punish_cache` tokens, falls linearly to -1.0 at
    `max_completion_len`, and stays there.

    Args:
        max_completion_len: in tokens, at least 1.
        soft_punish_cache: the length of the fall in tokens, from 0 (a step) to max_completion_len.

    Raises:
        ValueError: an argument is out of its bounds.
    """
    if max_completion_len < 1:
        raise ValueError(f"max_completion_len {max_completion_len} must be at least 1 token")
    if not 0 <= soft_punish_cache <= max_completion_len:
        raise ValueError(
            f"soft_punish_cache {soft_punish_cache} must be in [0, max_completion_len = "
            f"{max_completion_len}]: it is the part of it that is punished"
        )
    start = max_completion_len - soft_punish_cache

    def punish(length: int) -> float:
        if length <= start:
            return 0.0
        return (start - length) / soft_punish_cache if length <= max_completion_len else -1.0

    def soft_overlong_punishment_reward(completion_ids: TokenIds, **columns: object) -> list[float]:
        del columns
        return [punish(len(ids)) for ids in completion_ids]

    return soft_overlong_punishment_reward


def _measure(completions: Completions, completion_ids: TokenIds | None) -> list[int]:
    """Returns the lengths of the completions: in tokens if these are given, else in characters."""
    if completion_ids is None:
        return [len(text) for text in read_texts(completions)]
    return [len(ids) for ids in completion_ids]
