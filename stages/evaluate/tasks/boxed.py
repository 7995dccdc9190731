r"""Scores mathematics whose final answer is in \boxed{}, as DeepSeek-R1 is asked for it.

The answer is the last box after the thought, compared by math-verify, which `filter` and `grpo`
use, too; here both sides are LaTeX. As there, an answer of several numbers is wrong where the
reference is an integer, and so is one of more than 200 characters.
"""

from __future__ import annotations

import re
import threading
from functools import cache
from typing import TYPE_CHECKING

import math_verify

from stages.evaluate.tasks.scoring import Problem, Scorer, after_thought
from stages.filter.verify import MAX_ANSWER_LENGTH

if TYPE_CHECKING:
    from collections.abc import Sequence

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[0-9](?:[0-9.,]*[0-9])?")
_TIMEOUT_S = 3


def read(text: str) -> str | None:
    r"""Returns what is in the last \boxed{} after the thought, or None; braces must match."""
    answer = after_thought(text)
    starts = [match.end() for match in _BOX.finditer(answer or "")]
    if answer is None or not starts:
        return None
    depth, start = 1, starts[-1]
    for place in range(start, len(answer)):
        if answer[place - 1] != "\\" or answer[place] not in "{}":
            depth += {"{": 1, "}": -1}.get(answer[place], 0)
        if depth == 0:
            return answer[start:place].strip()
    return None


def is_right(answer: str, gold: str) -> bool:
    """Returns whether the answer, in LaTeX or not, equals the reference.

    Raises:
        ValueError: the reference cannot be parsed.
    """
    gold = gold.strip()
    reference = _parse_gold(gold)
    answer = answer.replace("{,}", ",").replace(r"\!", "")  # how LaTeX separates thousands
    if not answer or len(answer) > MAX_ANSWER_LENGTH:
        return False
    if answer == gold:
        return True
    if _INTEGER.fullmatch(gold) and len(_NUMBER.findall(answer)) != 1:
        return False
    parsed = _parse(answer)
    return bool(
        math_verify.verify(
            list(reference), parsed, timeout_seconds=_timeout_s(), raise_on_error=False
        )
    )


def judge(answers: Sequence[str], problem: Problem) -> list[bool]:
    """Returns whether each answer equals the problem's."""
    return [is_right(answer, problem["answer"]) for answer in answers]


def prepare(problem: Problem) -> Problem:
    """Returns the problem. Raises ValueError if its answer cannot be parsed."""
    _parse_gold(problem["answer"].strip())
    return problem


def _parse(text: str) -> list[object]:
    # Boxed, so that math-verify takes it for LaTeX, and all of it for the answer.
    parsed: list[object] = math_verify.parse(
        rf"\boxed{{{text}}}", parsing_timeout=_timeout_s(), raise_on_error=False
    )
    return parsed


@cache
def _parse_gold(gold: str) -> tuple[object, ...]:
    parsed = _parse(gold) if gold else []
    if not parsed:
        raise ValueError(
            f"the reference answer {gold!r} cannot be parsed by math-verify: correct it, or drop "
            f"the problem from its source"
        )
    return tuple(parsed)


def _timeout_s() -> int | None:
    """Returns math-verify's time limit, which works by signals: in the main thread alone."""
    return _TIMEOUT_S if threading.current_thread() is threading.main_thread() else None


SCORER = Scorer(read=read, judge=judge, prepare=prepare)
process_results = SCORER.process_results
