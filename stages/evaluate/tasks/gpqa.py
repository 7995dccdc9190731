"""Scores GPQA: four choices, and the letter of the right one.

R1 asks it in the way of simple-evals (arXiv:2501.12948, D.1), which shuffles the choices with
random numbers. Here their order follows from a hash of the problem's id and the choice's text: it
is the same wherever the problem is asked.
"""

from __future__ import annotations

import hashlib

from stages.evaluate.tasks.letters import LETTERS, judge, read
from stages.evaluate.tasks.scoring import Problem, Scorer

_WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def prepare(problem: Problem) -> Problem:
    """Returns the problem with its `choices`, in an order of its own, and the right `letter`.

    Raises:
        ValueError: two choices are equal, or one is empty.
    """
    right = problem["answer"].strip()
    texts = [right, *((problem[name] or "").strip() for name in _WRONG)]
    if len(set(texts)) < len(texts) or "" in texts:
        raise ValueError(f"the choices must be {len(texts)} different texts, not {texts}")
    texts.sort(key=lambda text: hashlib.sha256(f"{problem['id']}\n{text}".encode()).digest())
    return {**problem, "choices": texts, "letter": LETTERS[texts.index(right)]}


SCORER = Scorer(read=read, judge=judge, prepare=prepare, columns=_WRONG, kept=_WRONG)
process_results = SCORER.process_results
process_docs = SCORER.process_docs
