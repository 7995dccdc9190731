"""The response format and the verifier that filter, grpo and evaluate share.

A response is `<think>…</think>`, optional white space, `<answer>…</answer>`, and nothing else: each
tag exactly once. DeepSeek-R1 (v2), section 2.2, has both rewards and no code. Deviations from
Open-R1's, each with a test:

1. The whole text is matched: no garbage before, between or after, and no second block.
2. The reference comes first in math-verify's order of arguments, and one that cannot be parsed is
   an error, never a correct answer.
3. Answers longer than 200 characters are wrong: an answer is not an essay, and no verifier is made
   to parse one.
4. If the reference is an integer, an answer of several numbers is wrong: math-verify would take
   "4 + 7 + 9" for 20 and "1, 2, 3" for 3, so that repeating the question or guessing often paid.
5. Timeouts, which math-verify implements with signals, are used in the main thread, where signals
   work; elsewhere the bound on the length has to do. They are of wall time, and would make slow
   answers wrong on a busy machine: a process with a timer on its CPU time (grpo's workers) needs
   none.
"""

from __future__ import annotations

import logging
import re
import signal
import threading
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import math_verify

MAX_ANSWER_LENGTH = 200  # characters
_TIMEOUT_S = 3
_TAG = r"</?(?:think|answer)>"
_TEXT = rf"((?:(?!{_TAG}).)*)"
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped one is not counted
_FORMAT = re.compile(rf"<think>{_TEXT}</think>\s*<answer>{_TEXT}</answer>", re.DOTALL)
INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
NUMBER = re.compile(r"[0-9](?:[0-9.,]*[0-9])?")

# As lm-eval's `flexible-extract` of gsm8k finds numbers.
_ANYWHERE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")

# It warns once per process that a thread has no timeout, which is known here.
logging.getLogger("math_verify").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Response:
    """The two parts of a response in the format, without surrounding white space."""

    think: str
    answer: str


def parse(text: str) -> Response | None:
    """Returns the parts of a response, or None if it is not in the format."""
    match = _FORMAT.fullmatch(text.strip())
    return Response(match[1].strip(), match[2].strip()) if match else None


def after_thought(text: str) -> str | None:
    """Returns what a response says after its last closed think block, or None if one is open.

    Without any think tag it is the whole text: not all models think.
    """
    rest = text.rpartition("</think>")[2]
    return None if "<think>" in rest else rest


def find_end_of_braces(text: str) -> int | None:
    """Returns where the braces that the text begins with are closed, or None."""
    depth = 0
    for found in _BRACE.finditer(text):
        if depth == 0 and text[: found.start()].strip():
            return None  # it does not begin with one
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if depth <= 0:
            return found.end() if depth == 0 else None
    return None


def is_correct(text: str, gold: str) -> bool:
    """Returns whether the response is in the format and its answer equals the reference.

    Raises:
        ValueError: the reference cannot be parsed.
    """
    response = parse(text)
    return is_equal(response.answer if response else "", gold)


def is_equal(answer: str, gold: str) -> bool:
    """Returns whether the answer is the same number or expression as the reference.

    Raises:
        ValueError: the reference cannot be parsed.
    """
    answer, gold = answer.strip(), gold.strip()
    if INTEGER.fullmatch(gold):
        if INTEGER.fullmatch(answer):
            return int(answer) == int(gold)  # what math-verify says too, a thousand times as fast
        if len(NUMBER.findall(answer)) != 1:
            return False
    return compare(answer, gold)


def compare(answer: str, gold: str, form: str = "%s") -> bool:
    r"""Returns whether math-verify takes the answer for the reference.

    Args:
        answer: white space around it is no part of it.
        gold: the reference, likewise.
        form: how both are written for math-verify: r"\boxed{%s}" says that they are LaTeX.

    Raises:
        ValueError: the reference cannot be parsed.
    """
    reference = parse_gold(gold, form)
    if not answer or len(answer) > MAX_ANSWER_LENGTH:
        return False
    timeout_s = _timeout_s()
    parsed = math_verify.parse(form % answer, parsing_timeout=timeout_s, raise_on_error=False)
    return bool(
        math_verify.verify(list(reference), parsed, timeout_seconds=timeout_s, raise_on_error=False)
    )


def is_correct_anywhere(text: str, gold: str) -> bool:
    """Returns whether the last number of the text, in whatever format, is that of the reference.

    lm-eval's `flexible-extract` of gsm8k: thousands' commas, dollar signs and a full stop behind it
    are no part of the number. False if the reference is no number.
    """
    numbers = _ANYWHERE.findall(text)
    return bool(numbers) and _to_number(numbers[-1]) == _to_number(gold.strip()) is not None


def _to_number(text: str) -> Fraction | None:
    try:
        return Fraction(re.sub(r"[$,]|\.$", "", text))
    except (ValueError, ZeroDivisionError):
        return None


@cache
def parse_gold(gold: str, form: str = "%s") -> tuple[object, ...]:
    """Returns what math-verify reads in a reference. Raises ValueError if that is nothing."""
    parsed: list[object] = []
    if gold:
        parsed = math_verify.parse(form % gold, parsing_timeout=_timeout_s(), raise_on_error=False)
    if not parsed:
        raise ValueError(
            f"the reference answer {gold!r} cannot be parsed by math-verify: correct it, or drop "
            f"the problem from its source"
        )
    return tuple(parsed)


def _timeout_s() -> int | None:
    has_timer = signal.getitimer(signal.ITIMER_PROF)[0] > 0  # that of rewards/verifier.py
    is_main = threading.current_thread() is threading.main_thread()
    return _TIMEOUT_S if is_main and not has_timer else None
