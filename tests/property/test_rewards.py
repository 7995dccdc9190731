"""What holds of the rewards for any text: ranges, monotony, and that no trick pays."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.grpo.rewards.accuracy import accuracy_reward, answer_accuracy, answer_format
from stages.grpo.rewards.length import (
    get_cosine_scaled_reward,
    get_soft_overlong_punishment,
    len_reward,
)
from stages.grpo.rewards.text import (
    format_reward,
    get_code_format_reward,
    get_language_consistency_reward,
    get_repetition_penalty_reward,
    reasoning_steps_reward,
    tag_count_reward,
)
from tests.property.texts import TAGS, plain

CODE = "```python\npass\n```"
LOOK_ALIKES = {"<": "＜", ">": "＞", "/": "∕", "t": "ｔ", "i": "і", "k": "к", "a": "а", "s": "ѕ"}
GOLD = r"\frac{63}{400}"
RIGHT = r"\boxed{\frac{63}{400}}"
WRONG = r"\boxed{\frac{64}{400}}"

# The same examples each time; and starting the verifier takes longer than a deadline.
fixed = settings(derandomize=True, deadline=None)

code_format_reward = get_code_format_reward()
english, chinese = (get_language_consistency_reward(name) for name in ("en", "zh"))

# Text that is made of what the rewards look for.
parts = ["\n", " ", "1", "a", "so it is", "所以", "Step 1:", "First,", "$", "`", "\\boxed{1}", CODE]
texts = st.lists(st.sampled_from([*TAGS, *(f"{tag}\n" for tag in TAGS), *parts])).map("".join)
lengths = st.lists(st.integers(0, 300), min_size=1, max_size=8)


def wrap(think: str, answer: str) -> str:
    return f"<think>\n{think}\n</think>\n<answer>\n{answer}\n</answer>"


prose = plain.filter(lambda text: "```" not in text)
well_formed = st.builds(lambda think, answer: wrap(think, f"{answer}\n{CODE}"), plain, prose)


def score_format(text: str) -> list[float | None]:
    """Returns what the rewards that demand a format give: format's, code_format's, ours."""
    return [*format_reward([text]), *code_format_reward([text]), *answer_format([text])]


@fixed
@given(well_formed)
def test_every_well_formed_completion_is_in_the_format(text: str) -> None:
    assert score_format(text) == [1.0, 1.0, 1.0]
    assert tag_count_reward([text]) == [1.0]


@fixed
@given(st.lists(st.sampled_from([*TAGS, "\n", "1"]), max_size=14))
def test_format_is_what_taking_it_apart_says(items: list[str]) -> None:
    text = "".join(items)
    head, _, rest = text.removeprefix("<think>\n").partition("\n</think>\n<answer>\n")
    body, _, tail = rest.rpartition("\n</answer>")
    whole = text.rstrip("\n") == wrap(head, body) and not tail.strip("\n")
    once = all(text.count(tag) == 1 for tag in TAGS)
    assert format_reward([text]) == [float(whole and once)]


@fixed
@given(well_formed, st.sampled_from(TAGS), st.data())
def test_tag_more_or_less_costs_the_format(text: str, tag: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(text)))
    more = text[:place] + tag + text[place:]
    # Within another tag, a tag leaves neither whole or itself once.
    assert score_format(more) == [0.0, 0.0, 0.0]
    less = text.replace(tag, "")
    assert score_format(less) == [0.0, 0.0, 0.0]
    assert tag_count_reward([less]) == [0.75]


@fixed
@given(well_formed, st.sampled_from(TAGS), st.data())
def test_look_alike_of_a_tag_costs_the_format(text: str, tag: str, data: st.DataObject) -> None:
    letter = data.draw(st.sampled_from([char for char in tag if char in LOOK_ALIKES]))
    for fake in (tag.replace(letter, LOOK_ALIKES[letter]), tag.upper()):
        mutated = text.replace(tag, fake)
        assert score_format(mutated) == [0.0, 0.0, 0.0]
        assert tag_count_reward([mutated]) == [0.75]


@fixed
@given(plain, plain, plain.filter(str.strip))
def test_text_outside_the_blocks_costs_the_format(think: str, answer: str, text: str) -> None:
    good = wrap(think, CODE + answer)
    between = good.replace("</think>\n", f"</think>\n{text}")
    for mutated in (text + good, good + text, f"{good}\n{text}", between, good + good):
        assert score_format(mutated) == [0.0, 0.0, 0.0]
    swapped = f"<answer>\n{CODE}\n</answer>\n<think>\n{think}\n</think>"
    assert score_format(swapped) == [0.0, 0.0, 0.0]


@fixed
@given(texts)
def test_ranges(text: str) -> None:
    assert set(score_format(text)) <= {0.0, 1.0}
    assert tag_count_reward([text])[0] in {0.0, 0.25, 0.5, 0.75, 1.0}
    assert reasoning_steps_reward([text])[0] in {0.0, 1 / 3, 2 / 3, 1.0}
    assert -0.5 <= get_repetition_penalty_reward(2, -0.5)([text])[0] <= 0.0
    assert -0.5 <= get_repetition_penalty_reward(2, -0.5, "zh")([text])[0] <= 0.0
    shares = english([text])[0], chinese([text])[0]
    assert min(shares) >= 0.0
    assert sum(shares) <= 1.0 + 1e-9


@fixed
@given(st.lists(plain, max_size=4), texts)
def test_rewards_depend_on_their_own_completion_only(others: list[str], text: str) -> None:
    penalty = get_repetition_penalty_reward(2, -1.0)
    for reward in (format_reward, tag_count_reward, reasoning_steps_reward, english, penalty):
        assert reward([*others, text])[-1:] == reward([text])


@fixed
@given(st.integers(0, 6), plain)
def test_numbered_lines_are_steps(num: int, text: str) -> None:
    steps = "".join(f"{i + 1}. so\n" for i in range(num))
    assert reasoning_steps_reward([steps]) == [min(1.0, num / 3)]
    assert reasoning_steps_reward([f"{steps}{text}"])[0] >= min(1.0, num / 3)


@fixed
@given(texts.filter(lambda text: not any(tag in text for tag in TAGS)), st.data())
def test_other_scripts_never_pay(cot: str, data: st.DataObject) -> None:
    before = english([f"<think>{cot}</think>"])[0]
    assert english([f"<think>{cot} 所以</think>"])[0] <= before
    place = data.draw(st.integers(0, len(cot)))
    fake = cot[:place] + cot[place:].replace("i", "і").replace("a", "а")
    assert english([f"<think>{fake}</think>"])[0] <= before
    assert english([f"{cot}x<think>{cot}</think>"]) == [0.0]


@fixed
@given(st.lists(st.sampled_from("aAbB"), max_size=12), st.integers(1, 4))
def test_repetition_is_what_counting_says(words: list[str], size: int) -> None:
    grams = [" ".join(words[i : i + size]).lower() for i in range(len(words) - size + 1)]
    share = sum(count - 1 for count in Counter(grams).values()) / len(grams) if grams else 0.0
    penalty = get_repetition_penalty_reward(size, -2.0)
    assert penalty([" \n".join(words)]) == [pytest.approx(-2.0 * share)]


@fixed
@given(st.lists(st.sampled_from("abc"), min_size=2).map(" ".join), st.sampled_from([1, 2]))
def test_saying_it_twice_never_pays(text: str, size: int) -> None:
    penalty = get_repetition_penalty_reward(size, -1.0)
    assert penalty([f"{text} {text}"])[0] <= penalty([text])[0]


@fixed
@given(lengths, st.integers(1, 200))
def test_cosine_falls_for_correct_and_rises_for_wrong(sizes: list[int], max_len: int) -> None:
    cosine = get_cosine_scaled_reward(max_len=max_len)
    ids = [[0] * size for size in sorted(sizes)]
    right = cosine([RIGHT] * len(ids), [GOLD] * len(ids), completion_ids=ids)
    wrong = cosine([WRONG] * len(ids), [GOLD] * len(ids), completion_ids=ids)
    assert right == sorted(right, key=float, reverse=True)  # type: ignore[arg-type]
    assert wrong == sorted(wrong, key=float)  # type: ignore[arg-type]
    assert all(value is not None and 0.5 <= value <= 1.0 for value in right)
    assert all(value is not None and -1.0 <= value <= -0.5 for value in wrong)


@fixed
@given(lengths, st.integers(1, 200), st.data())
def test_overlong_falls(sizes: list[int], max_len: int, data: st.DataObject) -> None:
    cache = data.draw(st.integers(0, max_len))
    punishment = get_soft_overlong_punishment(max_len, cache)
    found = punishment([[0] * size for size in sorted(sizes)])
    assert found == sorted(found, reverse=True)
    assert all(-1.0 <= value <= 0.0 for value in found)


@fixed
@given(lengths, lengths, st.data())
def test_length_reward_of_a_group(sizes: list[int], others: list[int], data: st.DataObject) -> None:
    chosen = [data.draw(st.sampled_from([RIGHT, WRONG])) for _ in sizes]
    ids = [[0] * size for size in sizes]
    alone = len_reward(chosen, [GOLD] * len(chosen), completion_ids=ids)
    for text, reward in zip(chosen, alone, strict=True):
        assert reward is not None
        assert -0.5 <= reward <= (0.5 if text == RIGHT else 0.0)
    # Another problem in the batch changes nothing.
    together = len_reward(
        [*chosen, *(RIGHT for _ in others)],
        [GOLD] * (len(chosen) + len(others)),
        prompts=["1"] * len(chosen) + ["2"] * len(others),
        completion_ids=[*ids, *([0] * size for size in others)],
    )
    assert together[: len(chosen)] == alone


@fixed
@given(st.lists(st.integers(-99, 99), min_size=2, max_size=4), st.sampled_from([" ", ", ", "\n"]))
def test_several_answers_are_never_right(guesses: list[int], separator: str) -> None:
    answer = separator.join(str(guess) for guess in guesses)
    blocks = "".join(f"<answer>{guess}</answer>" for guess in guesses)
    for gold in guesses:
        for text in (f"<think></think><answer>{answer}</answer>", f"<think></think>{blocks}"):
            assert answer_accuracy([text], [str(gold)]) == [0.0]
    assert answer_accuracy(
        [f"<think></think><answer>{guesses[0]}</answer>"], [str(guesses[0])]
    ) == [1.0]


@settings(fixed, max_examples=20)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_last_box_alone_is_the_answer(guesses: list[int]) -> None:
    text = " or ".join(rf"\boxed{{{guess}}}" for guess in guesses)
    for gold in sorted(set(guesses)):
        assert accuracy_reward([text], [f"${gold}$"]) == [float(gold == guesses[-1])]
