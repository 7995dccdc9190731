"""Finding training problems that leak an evaluation problem.

R1's rule (arXiv:2501.12948v2, D.1): a training problem that shares a 10-gram of words with an
evaluation problem goes, be it in the question or in the reference solution. Two gaps of that rule
are closed here:

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

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from stages.prompts.search import NgramTable, Reader
from stages.prompts.text import ngrams, sort_words, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stages.prompts.params import BoilerplateParams, DecontaminationParams
    from stages.prompts.search import Numbers, Reading
    from stages.prompts.sources import Problem
    from stages.prompts.text import Words


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
        entries = list(evaluation)
        self._ids = [identifier for identifier, _ in entries]
        self._boilerplate_n = params.boilerplate.ngram
        self._boilerplate = frozenset(boilerplate)
        self._reader = Reader()
        templates = self._reader.learn_grams(sorted(self._boilerplate))
        self._templates = NgramTable(templates, self._boilerplate_n)
        reading = self._reader.learn(_texts([problem for _, problem in entries]))
        self._table = NgramTable(self._cut(reading.numbers), params.ngram)
        self._owners = reading.find_texts(self._table.positions) // 2
        self._wholes: dict[str, str] = {}
        for identifier, problem in entries:
            self._wholes.setdefault(sort_words(self._core(problem.question)), identifier)
        self._sums = np.unique(self._sum_questions(reading))

    def match(self, problem: Problem) -> Match | None:
        """Returns the leak of an evaluation problem in `problem`, or None if there is none."""
        return self.match_all([problem])[0]

    def match_all(self, problems: Sequence[Problem]) -> list[Match | None]:
        """Returns what `match` does of each, many times faster for some hundreds at once."""
        reading = self._reader.read(_texts(problems))
        matches: list[Match | None] = [None] * len(problems)
        for index in np.flatnonzero(np.isin(self._sum_questions(reading), self._sums)).tolist():
            matches[index] = self._match_whole(problems[index])
        positions, found = self._table.find(self._cut(reading.numbers))
        grams: dict[int, set[int]] = {}
        for index, gram in zip(reading.find_texts(positions) // 2, found, strict=True):
            grams.setdefault(int(index), set()).add(int(gram))
        for index, numbers in grams.items():
            shared, first = min((self._spell(gram), gram) for gram in numbers)
            matches[index] = Match("ngram", self._ids[self._owners[first]], " ".join(shared))
        return matches

    def _match_whole(self, problem: Problem) -> Match | None:
        core = self._core(problem.question)
        identifier = self._wholes.get(sort_words(core))
        return None if identifier is None else Match("whole", identifier, core)

    def _spell(self, gram: int) -> Words:
        return tuple(self._reader.vocabulary[number] for number in self._table.grams[gram])

    def _cut(self, numbers: Numbers) -> Numbers:
        """Returns the words with boilerplate made unknown, so that no n-gram has any."""
        return np.where(self._templates.cover(numbers), Reader.UNKNOWN, numbers)

    def _sum_questions(self, reading: Reading) -> Numbers:
        """Returns of each question a number that is the same for the same tokens in any order.

        As `_core` does, it leaves boilerplate out, unless there is nothing else.
        """
        covered = self._templates.cover(reading.numbers)
        rest = np.where(covered, np.uint64(0), reading.tokens)
        num_words = reading.add_up(~covered & (reading.numbers != Reader.SEPARATOR))
        sums = np.where(num_words == 0, reading.add_up(reading.tokens), reading.add_up(rest))
        return sums[::2]  # of question and solution in turns

    def _core(self, text: str) -> str:
        """Returns the normalised text without boilerplate; all of it if nothing else is left."""
        full = words(text)
        covered = [False] * len(full)
        for start in range(len(full) - self._boilerplate_n + 1):
            stop = start + self._boilerplate_n
            if full[start:stop] in self._boilerplate:
                covered[start:stop] = [True] * self._boilerplate_n
        rest = [word for word, drop in zip(full, covered, strict=True) if not drop]
        return " ".join(rest or full)


def _texts(problems: Sequence[Problem]) -> Iterable[str]:
    """Yields question and solution of each problem in turns."""
    for problem in problems:
        yield problem.question
        yield problem.solution
