"""What holds of the format and the verifier for any text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stages.filter.verify import Response, is_correct, is_equal, parse
from tests.property.texts import TAGS, plain


@given(plain, plain, st.text(alphabet=" \n\t"))
def test_parts_come_back(think: str, answer: str, space: str) -> None:
    text = f"<think>{think}</think>{space}<answer>{answer}</answer>"
    assert parse(text) == Response(think.strip(), answer.strip())


@given(st.lists(st.sampled_from([*TAGS, "1", " "]), max_size=8))
def test_each_tag_occurs_once_in_whatever_is_in_the_format(parts: list[str]) -> None:
    text = "".join(parts)
    if parse(text) is not None:
        assert [text.count(tag) for tag in TAGS] == [1, 1, 1, 1]
        assert text.strip().startswith("<think>")
        assert text.strip().endswith("</answer>")


@given(st.integers(-(10**17), 10**17), st.integers(-(10**17), 10**17))
def test_integers_are_equal_if_their_values_are(one: int, other: int) -> None:
    assert is_equal(str(one), str(other)) == (one == other)
    assert is_correct(f"<think></think><answer>{one}</answer>", f"{one:+}")
