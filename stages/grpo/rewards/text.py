"""Rewards that look at a completion's text alone: its format, its steps, its language, its loops.

Names, factories, arguments and values are Open-R1's (src/open_r1/rewards.py), but for these
deviations, each with a test; language consistency is DeepSeek-R1's, and Open-R1 has none:

1. A think tag that the chat template wrote counts as the completion's (see completions.py).
2. format and code_format match the whole completion, each tag once. Open-R1's MULTILINE lets any
   garbage behind the first block through, and its dots let a doubled or nested one through.
3. code_format wants code in the answer that code_reward would run, found by the same function: the
   fence's language is the one asked for and does not merely begin with it ("java", "javascript"),
   it ends the fence's line, and the block is not empty.
4. reasoning_steps finds numbered steps on every line, as Open-R1 documents, and not only at the
   start of the text; "3.14" is no step 3.
5. The repetition penalty splits Chinese with rjieba, a port of jieba, and refuses n-grams of no
   words.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stages.filter.thought import (
    LANGUAGES,
    find_splitter,
    measure_language,
    measure_repetition,
)
from stages.grpo.rewards.code import extract_code
from stages.grpo.rewards.completions import read_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stages.grpo.rewards.completions import Completions, Prompts

_BODY = r"((?:(?!</?(?:think|answer)>).)*)"
_FORMAT = re.compile(rf"<think>\n{_BODY}\n</think>\n<answer>\n{_BODY}\n</answer>\n*", re.DOTALL)
_STEP = re.compile(r"Step \d+:|^\d+\.(?!\d)|\n-|\n\*|First,|Second,|Next,|Finally,", re.MULTILINE)
_NUM_STEPS = 3  # from which on the reward is full
_TAGS = ("<think>\n", "\n</think>\n", "\n<answer>\n", "\n</answer>")

_COT = re.compile(r"\s*<think>(.*?)(?:</think>.*)?", re.DOTALL)


def format_reward(
    completions: Completions, *, prompts: Prompts | None = None, **columns: object
) -> list[float]:
    r"""Returns 1.0 where the completion is in Open-R1's format, else 0.0.

    The format is "<think>\n…\n</think>\n<answer>\n…\n</answer>": the whole completion but for line
    ends behind it, each tag once, either part possibly empty.
    """
    del columns
    return [float(bool(_FORMAT.fullmatch(text))) for text in read_texts(completions, prompts)]


def tag_count_reward(
    completions: Completions, *, prompts: Prompts | None = None, **columns: object
) -> list[float]:
    """Returns 0.25 for each of the format's four tags that occurs once with its line ends.

    In {0.0, 0.25, 0.5, 0.75, 1.0}. As in Open-R1, neither order nor other text matters: it is a
    gradient towards the format, to be used together with it.
    """
    del columns
    texts = read_texts(completions, prompts)
    return [sum(text.count(tag) == 1 for tag in _TAGS) / len(_TAGS) for text in texts]


def reasoning_steps_reward(
    completions: Completions, *, prompts: Prompts | None = None, **columns: object
) -> list[float]:
    """Returns the number of signs of step-by-step reasoning, divided by 3, in [0, 1].

    Signs are "Step 1:", a line that starts with "1." or (the first excepted) with "-" or "*", and
    "First,", "Second,", "Next," and "Finally,".
    """
    del columns
    counts = [len(_STEP.findall(text)) for text in read_texts(completions, prompts)]
    return [min(1.0, count / _NUM_STEPS) for count in counts]


def get_code_format_reward(language: str = "python") -> Callable[..., list[float | None]]:
    """Returns the reward of the format with a fenced block of code in its answer.

    It is 1.0 where the completion is in the format and `extract_code` finds code in its answer,
    else 0.0, and None where the row's language is None.

    Args:
        language: what stands behind the opening fence where the rows have no column `language`.

    Raises:
        ValueError: the language is empty.
    """
    if not language:
        raise ValueError('language is "": name what stands behind the fence, such as "python"')
    default = language

    def code_format_reward(
        completions: Completions,
        *,
        prompts: Prompts | None = None,
        language: Sequence[str | None] | None = None,
        **columns: object,
    ) -> list[float | None]:
        del columns
        texts = read_texts(completions, prompts)
        languages = [default] * len(texts) if language is None else language
        return [
            None if name is None else _score_code_format(text, name)
            for text, name in zip(texts, languages, strict=True)
        ]

    return code_format_reward


def _score_code_format(text: str, language: str) -> float:
    match = _FORMAT.fullmatch(text)
    return float(match is not None and extract_code(match[2], language) != "")


def get_language_consistency_reward(language: str = "en") -> Callable[..., list[float]]:
    r"""Returns the reward of a chain of thought in one language (DeepSeek-R1 v2, 3.2.1).

    It is the share of words in the target language among the words of the think block, in [0, 1].
    The paper gives no more, so this is ours: the think block opens the completion, once; where a
    limit cut it off, it ends with the completion; any other completion has none, and gets 0.0.
    `measure_language` says what a word is. Without any word it is 0.0: an empty chain of thought
    is in no language, and must not pay.

    Args:
        language: "en" or "zh".

    Raises:
        ValueError: another language.
    """
    if language not in LANGUAGES:
        raise ValueError(f"language {language!r} has no script here: choose {_list_languages()}")

    def language_consistency_reward(
        completions: Completions, *, prompts: Prompts | None = None, **columns: object
    ) -> list[float]:
        del columns
        return [_measure_share(text, language) for text in read_texts(completions, prompts)]

    return language_consistency_reward


def _measure_share(text: str, language: str) -> float:
    match = _COT.fullmatch(text)
    if match is None or text.count("<think>") > 1 or text.count("</think>") > 1:
        return 0.0
    return measure_language(match[1], language) or 0.0


def get_repetition_penalty_reward(
    ngram_size: int, max_penalty: float, language: str = "en"
) -> Callable[..., list[float]]:
    """Returns the penalty on repeated n-grams (arXiv 2502.03373, appendix C.2, as Open-R1 has it).

    It is `max_penalty` times the share of n-grams that occurred before, in [max_penalty, 0], and
    0.0 for fewer words than `ngram_size`.

    Args:
        ngram_size: words in an n-gram, at least 1.
        max_penalty: what would be reached if every n-gram were a repetition, at most 0.
        language: "en" or "zh": what a word is (`find_splitter`).

    Raises:
        ValueError: an argument is out of its bounds.
    """
    if max_penalty > 0:
        raise ValueError(f"max_penalty {max_penalty} should not be positive: it is added as it is")
    if ngram_size < 1:
        raise ValueError(f"ngram_size {ngram_size} must be at least 1: it is a number of words")
    if language not in LANGUAGES:
        raise ValueError(f"language {language!r} has no splitter: choose {_list_languages()}")
    split = find_splitter(language)

    def repetition_penalty_reward(
        completions: Completions, *, prompts: Prompts | None = None, **columns: object
    ) -> list[float]:
        del columns
        shares = [
            measure_repetition(split(text), ngram_size) for text in read_texts(completions, prompts)
        ]
        return [share * max_penalty if share else 0.0 for share in shares]

    return repetition_penalty_reward


def _list_languages() -> str:
    return " or ".join(repr(name) for name in LANGUAGES)
