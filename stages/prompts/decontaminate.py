"""Finding training problems that leak an evaluation problem.

R1's rule: a training problem that shares a 10-gram of words with an evaluation problem goes, be it
in the question or in the reference solution. Two gaps of that rule are closed here:

- Questions shorter than n words have no n-gram, so that open-r1's filter never removes any: they
  are compared as a whole, by their words in any order. "4 + 7 + 9" and "9 + 4 + 7" are one problem
  to whoever has learnt either. "12 - 3" and "3 - 12" are then taken for one, too: the error is on
  the safe side.
- Questions made from a template share its words with every evaluation question, and n-grams of nine
  template words and one operand would condemn nearly all of them. Words that belong to a source's
  template (see `find_boilerplate`) are therefore cut out of all texts first, and cut the text: an
  n-gram counts only if none of its words is boilerplate.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stages.prompts.params import BoilerplateParams, DecontaminationParams
    from stages.prompts.sources import Problem

Words = tuple[str, ...]

# The tokens of one word: letters, numbers, factorials and primes of functions, and every other sign
# by itself. What only structures prose is dropped.
_TOKEN = re.compile(
    r"""\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)  # 1,000.5 is one number
      | \d*\.\d+ | \d+
      | [^\W\d_]+                           # letters
      | (?<=[\d)])!                         # 5! is not 5
      | (?<=\w)'(?=\()                      # f'(x) is not f(x)
      | [^\w\s.,;:?!'"…] | _                # operators, brackets, other signs
    """,
    re.VERBOSE,
)
_SAME_SIGN = str.maketrans({"−": "-", "–": "-", "×": "*", "’": "'", "‘": "'", "“": '"', "”": '"'})


def words(text: str) -> Words:
    """Returns the case-folded words of `text`, which are what whitespace separates.

    A word is given as its tokens with a space between: punctuation is gone, but digits and
    operators count. Joined by spaces, the words are the normalised text, in which "12 + 3." and
    "12+3" agree, but "12 - 3" differs, and "(1 + 2) * 3" from "1 + (2 * 3)".
    """
    folded = unicodedata.normalize("NFC", text.translate(_SAME_SIGN)).casefold()
    spaced = (" ".join(_tokens(word)) for word in folded.split())
    return tuple(word for word in spaced if word)


def _tokens(word: str) -> list[str]:
    return [match.group().replace(",", "") for match in _TOKEN.finditer(word)]


def normalise(text: str) -> str:
    """Returns the text that two copies of one question have in common."""
    return " ".join(words(text))


def sort_words(normalised: str) -> str:
    """Returns the tokens of a normalised text in a fixed order: the same for 4 + 7 and 7 + 4."""
    return " ".join(sorted(normalised.split()))


def ngrams(sequence: Words, n: int) -> set[Words]:
    """Returns the distinct runs of `n` words; none if there are fewer words."""
    return {sequence[start : start + n] for start in range(len(sequence) - n + 1)}


def find_boilerplate(problems: Sequence[Problem], params: BoilerplateParams) -> dict[Words, float]:
    """Returns a source's template n-grams and the fraction of its problems that have each.

    They are the runs of `params.ngram` words in more than `params.min_frequency` of the first
    `params.num_rows` problems (question or solution). With fewer problems than that, frequencies
    mean nothing, and nothing is boilerplate.
    """
    if len(problems) < params.num_rows:
        return {}
    counts: Counter[Words] = Counter()
    for problem in problems[: params.num_rows]:
        found = ngrams(words(problem.question), params.ngram)
        counts.update(found | ngrams(words(problem.solution), params.ngram))
    frequencies = {gram: count / params.num_rows for gram, count in counts.items()}
    return {
        gram: frequency
        for gram, frequency in sorted(frequencies.items())
        if frequency > params.min_frequency
    }


@dataclass(frozen=True, slots=True)
class Match:
    """Why a training problem is contaminated: what it shares with which evaluation problem.

    ngram: a run of words; whole: all words of the question, in any order.
    """

    reason: Literal["ngram", "whole"]
    evaluation_id: str
    shared: str


class LeakDetector:
    """The evaluation problems' texts, indexed to be matched against training problems."""

    def __init__(
        self,
        evaluation: Iterable[tuple[str, Problem]],
        boilerplate: Iterable[Words],
        params: DecontaminationParams,
    ) -> None:
        """Indexes `evaluation`, pairs of an id and a problem; the first id wins a shared n-gram."""
        self._n = params.ngram
        self._boilerplate_n = params.boilerplate.ngram
        self._boilerplate = frozenset(boilerplate)
        self._ngrams: dict[Words, str] = {}
        self._wholes: dict[str, str] = {}
        for identifier, problem in evaluation:
            for gram in self._grams(problem.question) | self._grams(problem.solution):
                self._ngrams.setdefault(gram, identifier)
            self._wholes.setdefault(sort_words(self._core(problem.question)), identifier)

    def match(self, problem: Problem) -> Match | None:
        """Returns the leak of an evaluation problem in `problem`, or None if there is none."""
        grams = self._grams(problem.question) | self._grams(problem.solution)
        shared = min(grams & self._ngrams.keys(), default=None)
        if shared is not None:
            return Match("ngram", self._ngrams[shared], " ".join(shared))
        core = self._core(problem.question)
        identifier = self._wholes.get(sort_words(core))
        if identifier is not None:
            return Match("whole", identifier, core)
        return None

    def _grams(self, text: str) -> set[Words]:
        """Returns the n-grams of `text` that have no boilerplate word."""
        return set().union(*(ngrams(part, self._n) for part in self._parts(words(text))))

    def _core(self, text: str) -> str:
        """Returns the normalised text without boilerplate; all of it if nothing else is left."""
        full = words(text)
        return " ".join([word for part in self._parts(full) for word in part] or full)

    def _parts(self, sequence: Words) -> list[Words]:
        """Returns the runs of words that no boilerplate n-gram covers."""
        covered = [False] * len(sequence)
        for start in range(len(sequence) - self._boilerplate_n + 1):
            stop = start + self._boilerplate_n
            if sequence[start:stop] in self._boilerplate:
                covered[start:stop] = [True] * self._boilerplate_n
        parts: list[Words] = []
        begin = 0
        for index, drop in enumerate([*covered, True]):
            if drop:
                if index > begin:
                    parts.append(sequence[begin:index])
                begin = index + 1
        return parts
