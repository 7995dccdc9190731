r"""Reads the letter of a choice, as simple-evals asks for it: a last line "Answer: $LETTER".

A letter in \boxed{} counts, too. The last one that the response says after its thought is taken;
simple-evals takes the first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stages.filter.verify import after_thought

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stages.evaluate.tasks.scoring import Problem

LETTERS = "ABCD"
_SAID = r"(?i:answer)[ \t]*(?:\*\*)?[ \t]*:[ \t*]*[$(]*([A-D])(?![A-Za-z])"
_BOXED = r"\\boxed\{[ \t]*(?:\\text\{)?[ \t]*\(?([A-D])\)?[ \t]*\}"
_LETTER = re.compile(f"{_SAID}|{_BOXED}")


def read(text: str, letters: str = LETTERS) -> str | None:
    """Returns the last letter that the response, after its thought, says is its answer.

    None, too, if that is none of the letters, which are those of the choices.
    """
    found = _LETTER.findall(after_thought(text) or "")
    letter = "".join(found[-1]) if found else None
    return letter if letter in set(letters) else None


def judge(answers: Sequence[str], problem: Problem) -> list[bool]:
    """Returns whether each letter is that of the right choice."""
    return [answer == problem["letter"] for answer in answers]
