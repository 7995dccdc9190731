"""Whether the final answer is the reference: 1.0 or 0.0, or None where that cannot be told.

`accuracy_reward` is Open-R1's (a box after the thought, LaTeX only). `answer_accuracy` and
`answer_format` are this project's default: the answer inside `<answer>`, as filter and evaluate
read it. DeepSeek-R1 (v2), section 2.2, names an accuracy reward and a format reward.

Deviations of `accuracy_reward` from Open-R1's, each with a test:

1. Only what follows the last `</think>` is read, and a thought that never ends has no answer:
   Open-R1 takes a box out of the thought.
2. Of several boxes the last one counts: math-verify makes a set of them, so that a corrected
   answer is wrong and a list of guesses can be the reference.
3. A reference that cannot be parsed, or is missing, gives None: older versions of Open-R1 gave 1.0.
4. The reference comes first in math-verify's order of arguments.
5. At most 8,000 characters, the last ones, are read: math-verify's search is quadratic in them.
6. An answer whose comparison exceeds the verifier's limits gives None:
   math-verify's own timeouts, 5 s of wall time for each step, make it wrong on a busy machine.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import math_verify
from math_verify.parser import NormalizationConfig

from stages.filter.verify import (
    INTEGER,
    NUMBER,
    after_thought,
    find_end_of_braces,
    is_correct_anywhere,
    is_equal,
    parse,
)
from stages.grpo.rewards.completions import read_texts
from stages.grpo.rewards.verifier import compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stages.grpo.rewards.completions import Completions, Prompts

MAX_TEXT_LENGTH = 8_000  # characters
_BOX = "\\boxed"
_PERCENT = re.compile(r"\s*\$?\s*\\?%")
_ANSWER = (
    math_verify.LatexExtractionConfig(
        normalization_config=NormalizationConfig(
            nits=False, malformed_operators=False, basic_latex=True, boxed="all", units=True
        ),
        boxed_match_priority=0,  # boxes first
        try_extract_without_anchor=False,  # no formula that is not said to be the answer
    ),
)


def accuracy_reward(
    completions: Completions,
    solution: Sequence[str | None],
    *,
    prompts: Prompts | None = None,
    **columns: object,
) -> list[float | None]:
    """Returns 1.0 where the last box after the thought equals the solution, 0.0 where it does not.

    A completion without a box may say "the answer is $...$", as in Open-R1. None: the solution is
    missing or cannot be parsed, or the comparison exceeds the verifier's limits.
    """
    del columns
    texts = read_texts(completions, prompts)
    pairs = [
        (final_text(text), gold)
        for text, gold in zip(texts, solution, strict=True)
        if gold is not None
    ]
    verdicts = iter(compare(_agrees, pairs))
    return [None if gold is None else _value(next(verdicts)) for gold in solution]


def answer_accuracy(
    completions: Completions,
    answer: Sequence[str],
    *,
    prompts: Prompts | None = None,
    **columns: object,
) -> list[float | None]:
    """Returns 1.0 where the completion is in the format and its answer equals the reference.

    The format is `stages.filter.verify.parse`'s and the comparison its `is_equal`; None: the
    comparison exceeds the verifier's limits.

    Raises:
        ValueError: a reference cannot be parsed.
    """
    del columns
    texts = read_texts(completions, prompts)
    pairs = []
    for text, gold in zip(texts, answer, strict=True):
        response = parse(text)
        pairs.append((response.answer if response else "", gold.strip()))
    slow = [not _is_plain(*pair) for pair in pairs]
    verdicts = iter(
        compare(is_equal, [pair for pair, is_slow in zip(pairs, slow, strict=True) if is_slow])
    )
    return [
        _value(next(verdicts) if is_slow else is_equal(*pair))
        for pair, is_slow in zip(pairs, slow, strict=True)
    ]


def flexible_accuracy(
    completions: Completions,
    answer: Sequence[str],
    *,
    prompts: Prompts | None = None,
    **columns: object,
) -> list[float]:
    """Returns 1.0 where the completion's last number is the reference, whatever stands around it.

    For a model that knows no format yet, as R1-Zero's base; a number behind the answer hides it.
    """
    del columns
    texts = read_texts(completions, prompts)
    pairs = zip(texts, answer, strict=True)
    return [float(is_correct_anywhere(text, gold)) for text, gold in pairs]


def answer_format(
    completions: Completions, *, prompts: Prompts | None = None, **columns: object
) -> list[float]:
    """Returns 1.0 where the whole completion is one think block and one answer block, else 0.0."""
    del columns
    texts = read_texts(completions, prompts)
    return [float(parse(text) is not None) for text in texts]


def final_text(text: str) -> str:
    """Returns what `accuracy_reward` reads of a completion: its last box after the thought.

    A percent sign behind it is kept. Without a box that ends it is the text after the thought, no
    longer one's last 8,000 characters. Empty if a thought begins and never ends.

    A group's completions differ in their words and agree in their answers: with the box alone, the
    verifier computes each answer once.
    """
    final = (after_thought(text) or "")[-MAX_TEXT_LENGTH:]
    before, box, after = final.rpartition(_BOX)
    length = find_end_of_braces(after) if box else None
    if length is None:
        return before.replace(_BOX, "") + box + after
    boxed = box + after[:length]
    return f"${boxed}$%" if _PERCENT.match(after, length) else boxed


def _is_plain(answer: str, gold: str) -> bool:
    # is_equal decides these by their characters, in microseconds, without math-verify.
    return bool(INTEGER.fullmatch(gold)) and (
        bool(INTEGER.fullmatch(answer)) or len(NUMBER.findall(answer)) != 1
    )


def _value(verdict: bool | None) -> float | None:  # noqa: FBT001 - it is the value
    return None if verdict is None else float(verdict)


def _agrees(text: str, gold: str) -> bool | None:
    # Runs in a worker, which ends it: math-verify's own timeouts are off.
    reference = _parse_solution(gold)
    if not reference:
        return None
    answer = math_verify.parse(
        text,
        extraction_config=_ANSWER,
        extraction_mode="first_match",
        parsing_timeout=None,
        raise_on_error=False,
    )
    verdict = math_verify.verify(
        list(reference), answer, timeout_seconds=None, raise_on_error=False
    )
    return bool(verdict)


@lru_cache(maxsize=1024)
def _parse_solution(gold: str) -> tuple[object, ...]:
    parsed = math_verify.parse(
        gold, extraction_mode="first_match", parsing_timeout=None, raise_on_error=False
    )
    return tuple(parsed)
