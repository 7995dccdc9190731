"""What a chain of thought is measured by, and the form of a response without a reference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.filter.thought import (
    find_splitter,
    has_code_block,
    measure_language,
    measure_paragraph,
    measure_repetition,
    split_thought,
)
from stages.filter.verify import parse
from stages.grpo.rewards.text import get_language_consistency_reward


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Hello!", ("", "Hello!")),
        (" \nHello!\n", ("", "Hello!")),
        ("<think>They greet.</think>\nHello!", ("They greet.", "Hello!")),
        ("<think>1 + 2</think><answer>3</answer>", ("1 + 2", "3")),
        ("<think></think>3", ("", "3")),
        ("<answer>3</answer>", ("", "3")),
        ("", None),
        ("<think>They greet.</think>", None),
        ("<think>They greet.</think> <answer> </answer>", None),
        ("<think>They greet.", None),
        ("They greet.</think>Hello!", None),
        ("Hello! <think>They greet.</think>", None),
        ("<think>a</think>b<think>c</think>d", None),
        ("<think>a</think><answer>b</answer> c", None),
        ("<answer>b</answer><answer>c</answer>", None),
    ],
)
def test_thought_and_reply(text: str, parts: tuple[str, str] | None) -> None:
    assert split_thought(text) == parts


@given(st.text("ab <>/\n", max_size=8), st.text("ab \n", min_size=1, max_size=8))
def test_format_with_an_answer_is_one_of_these(think: str, answer: str) -> None:
    text = f"<think>{think}</think><answer>{answer}</answer>"
    strict = parse(text)
    assert strict is not None
    if strict.answer:
        assert split_thought(text) == (strict.think, strict.answer)


@pytest.mark.parametrize(
    ("text", "english", "chinese"),
    [
        ("We add them", 1.0, 0.0),
        ("三加四", 0.0, 1.0),
        ("We add 三", 2 / 3, 1 / 3),
        ("Мы add", 0.5, 0.0),
        ("3 + 4 = 7", None, None),
        ("x = 3, $y = \\frac{1}{2}$", None, None),
        ("", None, None),
    ],
)
def test_language(text: str, english: float | None, chinese: float | None) -> None:
    for language, share in (("en", english), ("zh", chinese)):
        assert measure_language(text, language) == pytest.approx(share)
        rewarded = get_language_consistency_reward(language)([f"<think>{text}</think>"])[0]
        assert rewarded == pytest.approx(share or 0.0), "the reward's share"


def test_repetition_by_language() -> None:
    english, chinese = find_splitter("en"), find_splitter("zh")
    assert measure_repetition(english("So it is. so it is. So"), 2) == pytest.approx(3 / 6)
    assert measure_repetition(english("我们我们我们"), 2) == 0.0
    assert measure_repetition(chinese("我们我们我们我们"), 2) == pytest.approx(2 / 3)
    assert measure_repetition(english("so"), 2) == 0.0


@pytest.mark.parametrize(
    ("text", "longest"),
    [
        ("", 0),
        ("abc", 3),
        ("abc\nde", 6),
        ("abc\n\nde", 3),
        ("a\n \t\nbcd\n\n\ne", 3),
        ("\n\nab", 2),
    ],
)
def test_longest_paragraph(text: str, longest: int) -> None:
    assert measure_paragraph(text) == longest


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("```\n3\n```", True),
        ("So:\n  ```python\n3", True),
        ("~~~\n3\n~~~", True),
        ("with `code` in the line", False),
        ("and ```this``` too", False),
        ("    ```\n", False),
    ],
)
def test_code_blocks(text: str, has: bool) -> None:  # noqa: FBT001 - a case
    assert has_code_block(text) is has
