"""What counts as the same text: the words that problems are compared by."""

from __future__ import annotations

import re
import unicodedata

from stages.prompts.latex import plain

Words = tuple[str, ...]

# The tokens of one word: letters and numbers, with the sign of a factorial or a derivative behind
# them, and every other sign by itself. What only structures prose is dropped.
_TOKEN = re.compile(
    r"""(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)  # 1,000.5 is one number
         | \d*\.\d+ | \d+)(?:!|'\()?           # 5! is not 5
      | [^\W\d_]+(?:'\()?                      # letters; f'(x) is not f(x)
      | \)!?                                   # (2+3)! is not (2+3)
      | [^\w\s.,;:?!'"…] | _                   # operators, brackets, other signs
    """,
    re.VERBOSE,
)
_SAME_SIGN: dict[int, str] = {
    **{
        ord(sign): same for sign, same in zip("−–×⋅·∗÷∕⁄∣∼’‘′ϵϕϑ", "--****///|~'''εφθ", strict=True)
    },
    **{ord(sign): "<=" for sign in "≤⩽"},
    **{ord(sign): ">=" for sign in "≥⩾"},
    **{ord(sign): '"' for sign in "“”"},
    ord("²"): "^2",
    ord("³"): "^3",
}


def normalise_word(word: str) -> str:
    """Returns a word's case-folded tokens with a space between; '' for punctuation alone."""
    folded = unicodedata.normalize("NFC", word.translate(_SAME_SIGN)).casefold()
    return " ".join(match.group().replace(",", "") for match in _TOKEN.finditer(folded))


def words(text: str) -> Words:
    """Returns the words of `text`, which are what whitespace separates.

    Punctuation is gone, but digits and operators count. Joined by spaces, the words are the
    normalised text, in which "12 + 3." and "12+3" agree, but "12 - 3" differs, and "(1 + 2) * 3"
    from "1 + (2 * 3)". A formula in LaTeX is one word (`stages.prompts.latex`).
    """
    return tuple(word for word in map(normalise_word, plain(text).split()) if word)


def normalise(text: str) -> str:
    """Returns the text that two copies of one question have in common."""
    return " ".join(words(text))


def sort_words(normalised: str) -> str:
    """Returns the tokens of a normalised text in a fixed order: the same for 4 + 7 and 7 + 4."""
    return " ".join(sorted(normalised.split()))


def ngrams(sequence: Words, n: int) -> set[Words]:
    """Returns the distinct runs of `n` words; none if there are fewer words."""
    return {sequence[start : start + n] for start in range(len(sequence) - n + 1)}
