r"""What a chain of thought looks like: its language, its loops, its paragraphs, its code.

`filter` leaves traces out by these numbers, and two rewards of `grpo` are made of them. DeepSeek-R1
names what is filtered and gives neither definitions nor thresholds (B.3: repetition and mixed
languages; B.3.3: mixed languages, long paragraphs and code blocks), so these are ours.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

import rjieba

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Written in Latin letters whatever the language is.
_CODE_AND_LATEX = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]+`|\$\$.*?\$\$|\$[^$\n]+\$"
    r"|\\\((?:(?!\\\().)*?\\\)|\\\[(?:(?!\\\[).)*?\\\]|\\[A-Za-z]+",
    re.DOTALL,
)
_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_LATIN = "A-Za-z\u00c0-\u024f\u1e00-\u1eff"
_LATIN_WORD = re.compile(rf"[{_LATIN}]+")
# One Chinese character, or two letters or more of any other script.
_WORD = re.compile(rf"[{_HAN}]|[^\W\d_{_HAN}]{{2,}}")
_WORDS_OF = {"en": _LATIN_WORD, "zh": re.compile(rf"[{_HAN}]")}
LANGUAGES = tuple(_WORDS_OF)

_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")
_FENCE = re.compile(r"^[^\S\n]{0,3}(?:```|~~~)", re.MULTILINE)
_TEXT = r"((?:(?!</?(?:think|answer)>).)*)"
_OPEN = re.compile(
    rf"(?:<think>{_TEXT}</think>)?\s*(?:<answer>{_TEXT}</answer>|{_TEXT})", re.DOTALL
)


def split_thought(text: str) -> tuple[str, str] | None:
    """Returns thought and reply of a response that no reference answer is for; None if it has none.

    R1's simple queries have no thought (B.3.3), so that it may be missing, which "" says; the
    answer tags may be, too. Tags that are out of order, open or doubled are no format, nor is a
    thought without a reply.
    """
    match = _OPEN.fullmatch(text.strip())
    reply = (match[2] or match[3] or "").strip() if match else ""
    return ((match[1] or "").strip(), reply) if match and reply else None


def measure_language(text: str, language: str) -> float | None:
    r"""Returns the share of words in the language, in [0, 1]; None for a text without any word.

    A word is one Chinese character, or a run of two letters or more of other scripts; single
    letters are variables more often than words. Words are "en" if all of their letters are Latin,
    "zh" if Chinese. Punctuation, digits and LaTeX's commands are no words, nor is what stands in
    Latin letters in fenced or inline code and in LaTeX's formulas.

    Counting by script sees no difference between English and other languages in Latin letters, nor
    between Chinese and Japanese kanji; it counts a Chinese word as its characters, about 1.5, so
    that a mixed text is a little more Chinese than by words; and Latin letters hidden in code or
    formulas escape it where Chinese ones do not.
    """
    target = _WORDS_OF[language]
    prose = _CODE_AND_LATEX.sub(lambda found: _LATIN_WORD.sub(" ", found[0]), text)
    # Full-width letters and ligatures become plain ones, letters and their accents one.
    words = _WORD.findall(unicodedata.normalize("NFKC", prose))
    if not words:
        return None
    return sum(target.fullmatch(word) is not None for word in words) / len(words)


def find_splitter(language: str) -> Callable[[str], list[str]]:
    """Returns what splits a text into words for `measure_repetition`.

    "en": what white space separates, in lower case; "zh": what rjieba separates, white space and
    punctuation included.
    """
    split: Callable[[str], list[str]] = rjieba.cut if language == "zh" else _split_at_space
    return split


def _split_at_space(text: str) -> list[str]:
    return text.lower().split()


def measure_repetition(words: Sequence[str], ngram_size: int) -> float:
    """Returns the share of n-grams that occurred before, in [0, 1)."""
    num = len(words) - ngram_size + 1
    if num < 1:
        return 0.0
    return 1 - len({tuple(words[i : i + ngram_size]) for i in range(num)}) / num


def measure_paragraph(text: str) -> int:
    """Returns the characters of the longest paragraph; blank lines separate them."""
    return max(len(paragraph) for paragraph in _BLANK_LINES.split(text.strip()))


def has_code_block(text: str) -> bool:
    """Returns whether a line opens or closes a fenced block of code, as Markdown has it."""
    return _FENCE.search(text) is not None
