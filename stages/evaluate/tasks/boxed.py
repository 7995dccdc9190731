r"""Scores mathematics whose final answer is in \boxed{}, as DeepSeek-R1 is asked for it.

The answer is the last box after the thought, compared by math-verify, which `filter` and `grpo`
use, too; here both sides are LaTeX. As there, an answer of several numbers is wrong where the
reference is an integer, and so is one of more than 200 characters.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stages.evaluate.tasks.scoring import Problem, Scorer
from stages.filter.verify import (
    INTEGER,
    MAX_ANSWER_LENGTH,
    NUMBER,
    after_thought,
    compare,
    find_end_of_braces,
    parse_gold,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_FORM = r"\boxed{%s}"  # so that math-verify takes it for LaTeX, and all of it for the answer


def read(text: str) -> str | None:
    r"""Returns what is in the last \boxed{} after the thought, or None; braces must match."""
    answer = after_thought(text) or ""
    boxes = list(_BOX.finditer(answer))
    if not boxes:
        return None
    braces = answer[boxes[-1].end() - 1 :]
    end = find_end_of_braces(braces)
    return None if end is None else braces[1 : end - 1].strip()


def is_right(answer: str, gold: str) -> bool:
    """Returns whether the answer, in LaTeX or not, equals the reference.

    Raises:
        ValueError: the reference cannot be parsed.
    """
    gold = gold.strip()
    parse_gold(gold, _FORM)
    answer = answer.replace("{,}", ",").replace(r"\!", "")  # how LaTeX separates thousands
    if answer == gold and len(answer) <= MAX_ANSWER_LENGTH:
        return True
    if INTEGER.fullmatch(gold) and len(NUMBER.findall(answer)) != 1:
        return False
    return compare(answer, gold, _FORM)


def judge(answers: Sequence[str], problem: Problem) -> list[bool]:
    """Returns whether each answer equals the problem's."""
    return [is_right(answer, problem["answer"]) for answer in answers]


def prepare(problem: Problem) -> Problem:
    """Returns the problem. Raises ValueError if its answer cannot be parsed."""
    parse_gold(problem["answer"].strip(), _FORM)
    return problem


SCORER = Scorer(read=read, judge=judge, prepare=prepare)
process_results = SCORER.process_results
