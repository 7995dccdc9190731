"""The response format and the verifier, with the known defects of Open-R1's rewards as cases."""

from __future__ import annotations

import threading
import time

import pytest

from stages.filter.verify import (
    MAX_ANSWER_LENGTH,
    Response,
    is_correct,
    is_correct_anywhere,
    is_equal,
    parse,
)

GOOD = "<think>1 + 2 = 3</think><answer>3</answer>"


@pytest.mark.parametrize(
    "text", [GOOD, f"\n {GOOD} \n", "<think>1 + 2 = 3</think>\n\n<answer> 3 </answer>"]
)
def test_format_is_taken_apart(text: str) -> None:
    assert parse(text) == Response("1 + 2 = 3", "3")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        f"{GOOD} and so on",  # garbage behind it: Open-R1's MULTILINE lets it through
        f"{GOOD}\nand so on",
        f"Well: {GOOD}",
        f"{GOOD}{GOOD}",  # a doubled block
        f"{GOOD}\n{GOOD}",
        "<think>1</think> so <answer>3</answer>",
        "<think>1</think><answer>3</answer></answer>",
        "<think><think>1</think></think><answer>3</answer>",
        "<think>1<answer>3</answer></think><answer>3</answer>",
        "<answer>3</answer><think>1</think>",
        "<answer>3</answer>",
        "<think>1</think>",
        "1</think><answer>3</answer>",
        "<Think>1</Think><answer>3</answer>",
    ],
)
def test_everything_else_is_not_in_the_format(text: str) -> None:
    assert parse(text) is None
    assert not is_correct(text, "3")


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("3", "3"),
        (" 3 ", "3"),
        ("+3", "3"),
        ("3.0", "3"),
        (r"\boxed{3}", "3"),
        ("$3$", "3"),
        ("x = 3", "3"),
        ("3 apples", "3"),
        ("-7", "-7"),
        ("3,000", "3000"),
        ("1/2", "0.5"),
        (r"\frac{1}{2}", "1/2"),
        (r"$\sqrt{4}+x$", "$x+2$"),
    ],
)
def test_equal_answers(answer: str, gold: str) -> None:
    assert is_equal(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("4", "3"),
        ("-3", "3"),
        ("30", "3"),
        ("", "3"),
        ("three", "3"),
        ("4 + 7 + 9", "20"),  # the question again: math-verify alone says yes
        ("1, 2, 3", "3"),  # guesses
        ("4 or 3", "3"),
        ("5 3", "3"),
        ("3" * (MAX_ANSWER_LENGTH + 1), "3"),
        ("x" * 100_000, "$x+2$"),
    ],
)
def test_different_answers(answer: str, gold: str) -> None:
    assert not is_equal(answer, gold)


@pytest.mark.parametrize("gold", ["", "what?", "..."])
def test_reference_that_cannot_be_parsed_is_an_error(gold: str) -> None:
    # Open-R1 counts every answer as correct then.
    with pytest.raises(ValueError, match="cannot be parsed by math-verify"):
        is_equal("3", gold)


def test_reference_is_checked_even_if_the_format_fails() -> None:
    with pytest.raises(ValueError, match="cannot be parsed"):
        is_correct("no format", "what?")


def test_answer_that_takes_for_ever_is_wrong_in_time() -> None:
    start = time.monotonic()
    assert not is_equal("$9^{9^{9^{9}}}$", "$x$")
    assert time.monotonic() - start < 30


def test_threads_get_the_same_verdicts() -> None:
    verdicts = []
    thread = threading.Thread(
        target=lambda: verdicts.extend([is_equal("3.0", "3"), is_equal("1/3", "0.5")])
    )
    thread.start()
    thread.join()
    assert verdicts == [True, False]


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("7 + 5 = 12, and 12 + 5 = 17.", "17", True),
        ("It is $1,017.", "1017", True),
        ("17, but I am not sure about 16", "17", False),
        ("<think>12 + 5 = 17</think><answer>18</answer>", "17", False),
        ("<answer>17</answer>", "17", True),
        ("-17", "17", False),
        ("17.0", "17", True),
        ("one half is 0.5", "1/2", True),
        ("seventeen", "17", False),
        ("...", "17", False),
        ("1.2.3", "17", False),
        ("x", "x", False),
        ("", "17", False),
        ("9" * 5000, "17", False),
    ],
)
def test_last_number_counts_anywhere(text: str, gold: str, expected: bool) -> None:  # noqa: FBT001
    assert is_correct_anywhere(text, gold) is expected
