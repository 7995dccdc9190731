"""The rewards of a completion's text, with Open-R1's own tests' values and its defects as cases."""

from __future__ import annotations

import time

import pytest

from stages.grpo.rewards.text import (
    format_reward,
    get_code_format_reward,
    get_language_consistency_reward,
    get_repetition_penalty_reward,
    reasoning_steps_reward,
    tag_count_reward,
)

GOOD = "<think>\n1 + 2 = 3\n</think>\n<answer>\n3\n</answer>"
PREFILLED = ["<｜User｜>1 + 2<｜Assistant｜><think>\n"]
CODE = "<think>\nLoop.\n</think>\n<answer>\nHere:\n```python\nprint(1)\n```\nDone.\n</answer>"


def as_message(text: str) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": text}]]


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"{GOOD}\n",
        f"{GOOD}\n\n",
        "<think>\n\n</think>\n<answer>\n\n</answer>",
        "<think>\n1\n\n- 2 < 3\n</think>\n<answer>\n\\boxed{3}\n\n</answer>",
        "<think>\n＜/think＞\n</think>\n<answer>\n</Answer>\n</answer>",
    ],
)
def test_format(text: str) -> None:
    assert format_reward(as_message(text)) == [1.0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        f"{GOOD}\nand so on",  # Open-R1: 1.0, by its MULTILINE
        f"{GOOD}\n{GOOD}",  # Open-R1: 1.0
        f"{GOOD}\n<answer>\n4\n</answer>",  # Open-R1: 1.0
        "<think>\n<think>\n1\n</think>\n<answer>\n3\n</answer>",  # Open-R1: 1.0
        "<think>\n1\n</think>\n2\n</think>\n<answer>\n3\n</answer>",  # Open-R1: 1.0
        "<think>\n<answer>\n1\n</answer>\n</think>\n<answer>\n3\n</answer>",  # Open-R1: 1.0
        "<think>\n1\n</think>\n<answer>\n<think>\n3\n</answer>",  # Open-R1: 1.0
        f"{GOOD} ",
        f"{GOOD} and so on",
        f" {GOOD}",
        f"\n{GOOD}",
        f"Well:\n{GOOD}",
        GOOD.replace("\n", ""),
        GOOD.replace("\n", "\r\n"),
        "<think>\n</think>\n<answer>\n3\n</answer>",
        "<think>\n1\n</think>\n<answer>\n</answer>",
        "<think>\n1\n</think>\n\n<answer>\n3\n</answer>",
        "<think>1\n</think>\n<answer>\n3\n</answer>",
        "<think>\n1</think>\n<answer>\n3\n</answer>",
        "<think>\n1\n</think>\n<answer>3\n</answer>",
        "<think>\n1\n</think>\n<answer>\n3</answer>",
        "<answer>\n3\n</answer>\n<think>\n1\n</think>",
        "<think>\n1\n</think>",
        "<answer>\n3\n</answer>",
        GOOD.replace("<think>", "<Think>"),
        GOOD.replace("<", "＜"),
        GOOD.replace("think", "th\u0456nk"),  # a Cyrillic letter
        GOOD.partition("\n")[2],
    ],
)
def test_everything_else_is_not_in_the_format(text: str) -> None:
    assert format_reward(as_message(text)) == [0.0]


def test_rewards_are_one_per_completion_in_order() -> None:
    assert format_reward([GOOD, "3", GOOD], answer=["3"] * 3, trainer_state=None) == [1.0, 0.0, 1.0]
    assert format_reward([]) == []


def test_tag_that_the_template_wrote_counts() -> None:
    code, rest = (text.partition("\n")[2] for text in (CODE, GOOD))
    assert format_reward([rest], prompts=PREFILLED) == [1.0]
    assert tag_count_reward([rest], prompts=PREFILLED) == [1.0]
    assert get_code_format_reward()([code], prompts=PREFILLED) == [1.0]
    assert reasoning_steps_reward(["- a"], prompts=PREFILLED) == [1 / 3]
    assert get_language_consistency_reward()([rest], prompts=PREFILLED) == [0.0]
    assert get_language_consistency_reward()(["so it is"], prompts=PREFILLED) == [1.0]
    assert get_repetition_penalty_reward(1, -1.0)(["<think>"], prompts=PREFILLED) == [-0.5]


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("<think>\na\n</think>\n<answer>\nb\n</answer>", 1.0),
        ("a\n</think>\n<answer>\nb\n</answer>", 0.75),
        ("<think>\na\n<answer>\nb\n</answer>", 0.75),
        ("<think>\na\n</think>\nb\n</answer>", 0.75),
        ("<think>\na\n</think>\n<answer>\nb", 0.75),
        ("a\nb", 0.0),
        ("", 0.0),
        ("<think>\n", 0.25),
        ("\n</think>\n", 0.25),
        ("\n<answer>\n", 0.25),
        ("\n</answer>", 0.25),
        ("<think></think><answer></answer>", 0.0),
        ("<think>\n" * 2, 0.0),
        ("\n</think>\n" * 2, 0.0),
        ("\n<answer>\n" * 2, 0.0),
        ("\n</answer>" * 2, 0.0),
        (f"{GOOD} and so on", 1.0),  # as documented: only the number of tags
    ],
)
def test_tag_count(text: str, reward: float) -> None:
    assert tag_count_reward(as_message(text)) == [reward]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Step 1: a\nStep 2: b\nStep 3: c", 3),
        ("First, a.\nSecond, b.\nFinally, c.", 3),
        ("First, a.\nFinally, b.", 2),
        ("Step 1: a", 1),
        ("Step 12: a", 1),
        ("a", 0),
        ("", 0),
        ("1. a\n2. b\n3. c", 3),  # Open-R1: 1, for want of MULTILINE
        ("a\n10. b", 1),  # Open-R1: 0
        ("10.", 1),
        ("a 1. b", 0),
        ("3.14 is about pi", 0),  # Open-R1: 1
        ("a\n- b\n* c", 2),
        ("- b", 0),
        ("Next, a", 1),
        ("first, a. Step : b. Step 1 c", 0),
        ("First, Second, Next, Finally,", 4),
    ],
)
def test_reasoning_steps(text: str, count: int) -> None:
    assert reasoning_steps_reward(as_message(text)) == [min(1.0, count / 3)]


def in_answer(body: str) -> str:
    return f"<think>\na\n</think>\n<answer>\n{body}\n</answer>"


@pytest.mark.parametrize(
    ("text", "language", "reward"),
    [
        (CODE, "python", 1.0),
        (f"{CODE}\n", "python", 1.0),
        (in_answer("```python \t\nx\n```"), "python", 1.0),
        (in_answer("x\n```python\nx\n```\n```\nx\n```"), "python", 1.0),
        (in_answer("```\nx\n```\n```python\nx\n```"), "python", 1.0),
        (in_answer("```javascript\nx\n```"), "javascript", 1.0),
        (in_answer("```c++\nx\n```"), "c++", 1.0),
        (in_answer("```javascript\nx\n```"), "python", 0.0),
        (in_answer("```javascript\nx\n```"), "java", 0.0),  # Open-R1: 1.0
        (in_answer("```python3\nx\n```"), "python", 0.0),  # Open-R1: 1.0
        (in_answer("```python x```"), "python", 0.0),  # Open-R1: 1.0
        (in_answer("```python\n```"), "python", 0.0),  # Open-R1: 1.0
        (in_answer("```ccc\nx\n```"), "c.c", 0.0),  # Open-R1: 1.0
        (in_answer("```python\nx"), "python", 0.0),
        (in_answer("```\nx\n```"), "python", 0.0),
        (in_answer("x"), "python", 0.0),
        ("<think>\n```python\nx\n```\n</think>\n<answer>\nx\n</answer>", "python", 0.0),
        (f"{CODE}\nand so on", "python", 0.0),  # Open-R1: 1.0
        (f"{CODE}\n{CODE}", "python", 0.0),  # Open-R1: 1.0
        (CODE.replace("\n</answer>", "</answer>"), "python", 0.0),
        ("```python\nx\n```", "python", 0.0),
        ("<answer>```python\nx\n```</answer><think>a</think>", "python", 0.0),
        ("", "python", 0.0),
    ],
)
def test_code_format(text: str, language: str, reward: float) -> None:
    assert get_code_format_reward(language=language)(as_message(text)) == [reward]


def test_language_of_the_row_comes_before_the_default() -> None:
    reward = get_code_format_reward()
    javascript = in_answer("```javascript\nx\n```")
    assert reward([CODE, javascript]) == [1.0, 0.0]
    assert reward([CODE, javascript], language=["javascript", "javascript"]) == [0.0, 1.0]
    assert reward([CODE, CODE], language=["python", None]) == [1.0, None]
    with pytest.raises(ValueError, match="shorter"):
        reward([CODE, CODE], language=["python"])
    with pytest.raises(ValueError, match=r'^language is "": name what stands behind the fence'):
        get_code_format_reward("")


@pytest.mark.parametrize(
    ("cot", "english", "chinese"),
    [
        ("So it is three.", 1.0, 0.0),
        ("所以是三。", 0.0, 1.0),
        ("So 三", 0.5, 0.5),
        ("XX 三", 0.5, 0.5),
        ("So it is 三", 0.75, 0.25),
        ("三 четыре", 0.0, 0.5),  # Russian is neither
        ("使用Python", 1 / 3, 2 / 3),
        ("Über Straße naïve Việt", 1.0, 0.0),  # a script is no language
        ("nai\u0308ve", 1.0, 0.0),  # letter and accent apart
        ("ｓｏ ３", 1.0, 0.0),  # full width
        ("h\u0435llo so", 0.5, 0.0),  # a Cyrillic letter
        ("人々", 0.0, 1.0),
        ("𠀀", 0.0, 1.0),
        ("don't", 1.0, 0.0),
        ("x is 三 y π", 0.5, 0.5),  # single letters are variables
        ("snake_case 三", 2 / 3, 1 / 3),
        ("", 0.0, 0.0),
        ("1 + 2 = 3, x. $\\frac{one}{two}$", 0.0, 0.0),
        ("三 $two$", 0.0, 1.0),
        ("三 $$two\nthree$$", 0.0, 1.0),
        (r"三 \(two\) \[three\] \alpha", 0.0, 1.0),
        (r"三 \(two \(three\)", 0.5, 0.5),
        ("三 `two`", 0.0, 1.0),
        ("三 ```python\ntwo\n``` three", 0.5, 0.5),
        ("三 ```python\ntwo", 0.0, 1.0),
        ("三 `two\nthree`", 1 / 3 * 2, 1 / 3),
        ("三 costs $5 or\nsix$", 0.75, 0.25),
        ("so ```\n所以是三\n```", 0.2, 0.8),  # Chinese cannot hide in code
        (r"so $\text{三}$", 0.5, 0.5),
        ("1st 2nd 三", 2 / 3, 1 / 3),
    ],
)
def test_share_of_words_in_the_language(cot: str, english: float, chinese: float) -> None:
    for text in (f"<think>{cot}</think>\n<answer>答 done</answer>", f"\n<think>\n{cot}"):
        assert get_language_consistency_reward("en")(as_message(text)) == pytest.approx([english])
        assert get_language_consistency_reward("zh")(as_message(text)) == pytest.approx([chinese])


@pytest.mark.parametrize(
    "text",
    [
        "So it is",
        "<answer>So it is</answer>",
        "So it is</think>three",
        "所以<think>So it is</think>",
        "<think>So it is</think>所以<think>",
        "<think>So it is</think>所以</think>",
        "<think>So<think>it is</think>",
        "<Think>So it is</Think>",
    ],
)
def test_chain_of_thought_elsewhere_has_no_language(text: str) -> None:
    assert get_language_consistency_reward()([text]) == [0.0]


def test_hostile_text_is_scored_in_time() -> None:
    start = time.monotonic()
    for part in (r"\(", r"\[", "$", "$$", "`", "```", "<think>\n", "</think>", "\n", "\n1", "a"):
        for text in (part * 50_000, f"<think>\n{part * 50_000}"):
            get_language_consistency_reward()([text])
            format_reward([text])
            get_code_format_reward()([text, f"<think>\na\n</think>\n<answer>\n{text}\n</answer>"])
            reasoning_steps_reward([text])
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("text", "size", "max_penalty", "reward"),
    [
        ("this is a test sentence", 2, -1.0, 0.0),
        ("this this this this this", 2, -1.0, -0.75),
        ("this is a this is a test", 2, -1.0, -1 / 3),
        ("this is a this is a test", 3, -2.0, -0.4),
        ("test test test test", 3, -0.5, -0.25),
        ("This this", 1, -1.0, -0.5),
        ("", 2, -1.0, 0.0),
        (" \n", 1, -1.0, 0.0),
        ("word", 3, -1.0, 0.0),
        ("two words", 3, -1.0, 0.0),
        ("three different words", 3, -1.0, 0.0),
        ("word word word word", 3, -1.0, -0.5),
        ("one two one two", 3, -1.0, 0.0),
        ("A B C A B", 3, -0.5, 0.0),
        ("A B C A B C", 3, -1.0, -0.25),
        ("A B C A B C E F G A B C A B C", 3, -1.0, -5 / 13),
        ("A B C D E F G H I J K L", 3, -1.0, 0.0),
        ("a a", 1, 0.0, 0.0),
    ],
)
def test_repetition(text: str, size: int, max_penalty: float, reward: float) -> None:
    penalty = get_repetition_penalty_reward(ngram_size=size, max_penalty=max_penalty)
    (found,) = penalty(as_message(text))
    assert found == pytest.approx(reward)
    assert str(found) != "-0.0"


def test_chinese_is_split_into_words() -> None:
    # Without spaces it is one word to the splitter of English: nothing repeats.
    text = "我们计算我们计算我们计算"
    assert get_repetition_penalty_reward(1, -1.0, "zh")([text]) == [pytest.approx(-2 / 3)]
    assert get_repetition_penalty_reward(2, -1.0, "zh")([text]) == [pytest.approx(-0.6)]
    assert get_repetition_penalty_reward(1, -1.0, language="zh")([""]) == [0.0]
    assert get_repetition_penalty_reward(1, -1.0, "en")([text]) == [0.0]


def test_bounds_of_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=r"^max_penalty 1.5 should not be positive"):
        get_repetition_penalty_reward(ngram_size=2, max_penalty=1.5)
    with pytest.raises(ValueError, match=r"^max_penalty 0.1 should not be positive"):
        get_repetition_penalty_reward(ngram_size=2, max_penalty=0.1)
    with pytest.raises(ValueError, match=r"^ngram_size 0 must be at least 1"):
        get_repetition_penalty_reward(ngram_size=0, max_penalty=-1.0)
    with pytest.raises(ValueError, match=r"^language 'fr' has no splitter: choose 'en' or 'zh'$"):
        get_repetition_penalty_reward(ngram_size=1, max_penalty=-1.0, language="fr")
    with pytest.raises(ValueError, match=r"^language 'fr' has no script here: choose 'en' or 'zh'"):
        get_language_consistency_reward("fr")


def test_factories_name_their_rewards_as_open_r1() -> None:
    rewards = (
        get_code_format_reward(),
        get_repetition_penalty_reward(1, 0.0),
        get_language_consistency_reward(),
    )
    assert [reward.__name__ for reward in rewards] == [
        "code_format_reward",
        "repetition_penalty_reward",
        "language_consistency_reward",
    ]
