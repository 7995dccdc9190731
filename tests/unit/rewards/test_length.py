"""The rewards of length, with Open-R1's own tests' values and its defects as cases."""

from __future__ import annotations

import math

import pytest

from stages.grpo.rewards.length import (
    get_cosine_scaled_reward,
    get_soft_overlong_punishment,
    len_reward,
)

GOLD = r"\frac{63}{400}"
RIGHT = r"\boxed{\frac{63}{400}}"
WRONG = r"\boxed{\frac{64}{400}}"
UNPARSEABLE = "unparseable_latex"


def as_messages(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def ids(*lengths: int) -> list[list[int]]:
    return [[7] * length for length in lengths]


def score(*texts: str, **given: object) -> list[float | None]:
    return len_reward(as_messages(*texts), [GOLD] * len(texts), **given)  # type: ignore[arg-type]


def test_length_of_correct_and_wrong_completions() -> None:
    texts = (RIGHT, RIGHT + "x" * 10, WRONG, WRONG + "x" * 10, WRONG + "x" * 4, WRONG + "x" * 6)
    assert score(*texts) == pytest.approx([0.5, -0.5, 0.0, -0.5, 0.0, -0.1])


def test_equally_long_completions_get_nothing() -> None:
    assert score(RIGHT, WRONG) == [0.0, 0.0]
    assert score(RIGHT) == [0.0]


def test_length_is_in_tokens_if_the_trainer_gives_them() -> None:
    texts = (RIGHT + "x" * 100, RIGHT, RIGHT)
    assert score(*texts, completion_ids=ids(10, 11, 14)) == pytest.approx([0.5, 0.25, -0.5])
    assert score(*texts) == [-0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match="longer"):
        score(*texts, completion_ids=ids(10, 11))


def test_tag_that_the_template_wrote_has_no_length() -> None:
    prompts = ["a", "<think>\n"]
    closed = f"</think>{RIGHT}"
    assert score(closed, closed, prompts=["<think>\n"] * 2) == [0.0, 0.0]
    assert score(closed, f"x{closed}", prompts=prompts) == [0.0, 0.0]


def test_thought_that_the_template_began_and_that_never_ends_has_no_answer() -> None:
    prompts, completion_ids = ["<think>\n"] * 2, ids(0, 10)
    assert score(RIGHT, RIGHT, prompts=prompts, completion_ids=completion_ids) == [0.0, -0.5]
    cosine = get_cosine_scaled_reward(max_len=10)
    found = cosine([RIGHT] * 2, [GOLD] * 2, prompts=prompts, completion_ids=completion_ids)
    assert found == pytest.approx([-1.0, -0.5])


def test_only_completions_of_one_prompt_are_compared() -> None:
    texts = (RIGHT,) * 5
    one, other = [{"role": "user", "content": "1"}], [{"content": "2", "role": "user"}]
    same = [{"content": "1", "role": "user"}]
    lengths = ids(1, 10, 3, 20, 20)
    # Open-R1 compares the whole batch, so that whoever has the longer problem loses.
    assert score(*texts, completion_ids=lengths) == pytest.approx(
        [0.5, 0.5 - 9 / 19, 0.5 - 2 / 19, -0.5, -0.5]
    )
    for prompts in ([one, other, same, other, other], ["1", "2", "1", "2", "2"]):
        assert score(*texts, completion_ids=lengths, prompts=prompts) == [
            0.5,
            0.5,
            -0.5,
            -0.5,
            -0.5,
        ]


def test_completion_without_verdict_has_no_reward_but_a_length() -> None:
    # Open-R1 takes the first one for correct: 0.5, and 1.0 by the cosine.
    completions = as_messages(RIGHT, RIGHT, RIGHT)
    solution = [UNPARSEABLE, GOLD, None]
    lengths = ids(1, 2, 3)
    assert len_reward(completions, solution, completion_ids=lengths) == [None, 0.0, None]
    cosine = get_cosine_scaled_reward(max_len=4)
    assert cosine(completions, solution, completion_ids=lengths) == [None, 0.75, None]


def test_order_of_the_verifiers_arguments() -> None:
    # An interval may answer an inequality, not the reverse; Open-R1 asks the other way round.
    completions = as_messages(r"\boxed{(1,2)}", r"\boxed{1<x<2}")
    solution: list[str | None] = ["$1<x<2$", "$(1,2)$"]
    assert len_reward(completions, solution, completion_ids=ids(2, 1)) == [-0.5, 0.0]
    assert get_cosine_scaled_reward()(completions, solution, completion_ids=ids(0, 0)) == [1, -1]


@pytest.mark.parametrize(
    ("text", "length", "reward"),
    [
        (RIGHT, 20, 0.952254),
        (RIGHT, 80, 0.547746),
        (WRONG, 20, -0.952254),
        (WRONG, 80, -0.547746),
        (RIGHT, 0, 1.0),
        (RIGHT, 50, 0.75),
        (RIGHT, 100, 0.5),
        (WRONG, 0, -1.0),
        (WRONG, 50, -0.75),
        (WRONG, 100, -0.5),
        (RIGHT, 101, 0.5),
        (RIGHT, 200, 0.5),  # Open-R1: 1.0
        (WRONG, 200, -0.5),  # Open-R1: -1.0
    ],
)
def test_cosine(text: str, length: int, reward: float) -> None:
    cosine = get_cosine_scaled_reward(max_len=100)
    (found,) = cosine(as_messages(text), [GOLD], completion_ids=ids(length))
    assert found == pytest.approx(reward, abs=1e-6)


def test_cosine_counts_characters_without_tokens() -> None:
    cosine = get_cosine_scaled_reward(-4.0, -2.0, 2.0, 4.0, 100)
    texts = (RIGHT.ljust(50), WRONG.ljust(50), RIGHT)
    at_start = 3 + math.cos(math.pi * len(RIGHT) / 100)
    assert cosine(as_messages(*texts), [GOLD] * 3) == pytest.approx([3.0, -3.0, at_start])
    prefilled = f"</think>{RIGHT}".ljust(50)
    assert cosine([prefilled], [GOLD], prompts=["<think>\n"]) == pytest.approx([3.0])


def test_cosine_has_open_r1s_defaults() -> None:
    cosine = get_cosine_scaled_reward()
    found = cosine([RIGHT, RIGHT, WRONG, WRONG], [GOLD] * 4, completion_ids=ids(0, 1000, 0, 1000))
    assert found == pytest.approx([1.0, 0.5, -1.0, -0.5])
    assert cosine.__name__ == "cosine_scaled_reward"


@pytest.mark.parametrize(
    "values",
    [
        (0.0, -0.5, 0.5, 1.0),  # the defaults of Open-R1's registry
        (-1.0, 0.6, 0.5, 1.0),
        (-1.0, -0.5, 1.0, 0.5),
    ],
)
def test_cosine_values_out_of_order_are_an_error(
    values: tuple[float, float, float, float],
) -> None:
    with pytest.raises(ValueError, match=r"^min_value_wrong, .*: put them in ascending order"):
        get_cosine_scaled_reward(*values)


def test_cosine_bounds() -> None:
    get_cosine_scaled_reward(0.0, 0.0, 0.0, 0.0, 1)
    with pytest.raises(ValueError, match=r"^max_len 0 must be at least 1"):
        get_cosine_scaled_reward(max_len=0)


@pytest.mark.parametrize(
    ("length", "reward"),
    [
        (0, 0.0),
        (50, 0.0),
        (80, 0.0),
        (81, -0.05),
        (90, -0.5),
        (100, -1.0),
        (101, -1.0),
        (110, -1.0),
    ],
)
def test_soft_overlong_punishment(length: int, reward: float) -> None:
    punishment = get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20)
    assert punishment(completion_ids=ids(length), completions=["a"]) == [reward]
    assert punishment(ids(length, 0)) == [reward, 0.0]
    assert str(punishment(ids(80))[0]) == "0.0"
    assert punishment.__name__ == "soft_overlong_punishment_reward"


def test_overlong_bounds() -> None:
    assert get_soft_overlong_punishment(1, 0)(ids(1, 2)) == [0.0, -1.0]
    assert get_soft_overlong_punishment(4, 4)(ids(0, 1, 4, 5)) == [0.0, -0.25, -1.0, -1.0]
    with pytest.raises(ValueError, match=r"^max_completion_len 0 must be at least 1 token"):
        get_soft_overlong_punishment(0, 0)
    for cache in (-1, 5):
        with pytest.raises(ValueError, match=rf"^soft_punish_cache {cache} must be in \[0, max"):
            get_soft_overlong_punishment(4, cache)
