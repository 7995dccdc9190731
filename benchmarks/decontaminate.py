"""What the search for leaks gains over sets: `python3 -m nox -s bench -- decontaminate`.

The documents are made with a fixed seed: problems of about 150 words and solutions of about 400,
a formula in LaTeX every twentieth word. One in a hundred has twenty words of an evaluation problem,
and one in fifty is a short sum, of which some are evaluated. `scan` is the plain way, as Open-R1's
scripts/decontaminate.py has it: per row, the set of n-grams, each looked up in a dictionary; here
with our normalisation, so that the matches must be equal, and with one dictionary for all
evaluation sets instead of a pass for each. `as Open-R1` is that script's own way, on every tenth
document: one pass per set, text in lower case, here of questions and solutions; what it finds is
not the same. `search` is ours. All run in two processes, in turns, so that a busy machine slows
all; ratios are of the processes' CPU time, which other work changes less than the clock's.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from stages.prompts.decontaminate import LeakDetector, Match
from stages.prompts.params import BoilerplateParams, DecontaminationParams
from stages.prompts.sources import Problem
from stages.prompts.text import ngrams, normalise, sort_words, words

if TYPE_CHECKING:
    from collections.abc import Callable

N = 10
NUM_DOCUMENTS = 100_000
NUM_EVALUATION = 3_000
NUM_SETS = 5  # Open-R1's: two AIMEs, MATH-500, GPQA, LiveCodeBench
NUM_ROUNDS = 3
NUM_PROCESSES = 2
BATCH = 4_000
REASONS = ("ngram", "whole")
SEED = 20_250_120  # DeepSeek-R1's day
PARAMS = DecontaminationParams(
    ngram=N,
    boilerplate=BoilerplateParams(ngram=3, min_frequency=1.0, num_rows=1000),
    against={},
    max_matches=0,
)
Found = tuple[str, str] | None


class Writer:
    """Makes problems whose words are as frequent as a language's."""

    def __init__(self, seed: int) -> None:
        """Invents the words."""
        self._rng = random.Random(seed)  # noqa: S311
        letters = "etaoinshrdlucmfwypvbgkjqxz"
        weights = range(len(letters), 0, -1)
        self._words = [
            "".join(self._rng.choices(letters, weights, k=self._rng.randint(2, 9)))
            for _ in range(20_000)
        ]
        self._weights = [1 / (rank + 3) for rank in range(len(self._words))]

    def write(self, num: int) -> str:
        """Returns a text of some `num` words: sentences, numbers and formulas."""
        text = self._rng.choices(self._words, self._weights, k=num)
        for index in range(0, num, 12):
            text[index] = text[index].capitalize()
            text[index - 1] += "."
        for index in range(7, num, 20):
            text[index] = self._write_formula()
        for index in range(13, num, 20):
            text[index] = f"{self._rng.randint(1, 999)}"
        return " ".join(text)

    def _write_formula(self) -> str:
        a, b, c = (self._rng.randint(1, 20) for _ in range(3))
        if self._rng.random() < 1 / 2:
            return f"${self._rng.choice('abcknxyz')}$"
        return self._rng.choice(
            (
                rf"$x^{{2}} + {a}x = {b}$",
                rf"$\frac{{{a}}}{{{b}}} \cdot {c}$",
                rf"\( \sqrt{{{a}}} \le {b} \)",
                rf"$f(x) = {a}x - {b}$",
                rf"$\left( {a}, {b} \right)$",
            )
        )

    def write_sum(self) -> str:
        """Returns a short problem."""
        return f"Calculate {self._rng.randint(1, 60)} + {self._rng.randint(1, 60)}."

    def write_problem(self) -> Problem:
        """Returns a problem and its solution; one in fifty is short."""
        if self._rng.random() < 1 / 50:
            return Problem(self.write_sum(), "1", "1")
        question = self.write(self._rng.randint(100, 200))
        return Problem(question, "1", self.write(self._rng.randint(300, 500)))

    def leak(self, problem: Problem, source: Problem) -> Problem:
        """Returns the problem with twenty words of another in its question or its solution."""
        text = self._rng.choice((source.question, source.solution)).split()
        start = self._rng.randrange(max(1, len(text) - 20))
        excerpt = " ".join(text[start : start + 20])
        if self._rng.random() < 1 / 2:
            return Problem(f"{problem.question} {excerpt}", "1", problem.solution)
        return Problem(problem.question, "1", f"{excerpt} {problem.solution}")

    def choose(self, problems: list[Problem], share: float) -> Problem | None:
        """Returns, with the probability `share`, one of the problems."""
        return self._rng.choice(problems) if self._rng.random() < share else None


def make_documents(num: int, num_evaluation: int) -> tuple[list[Problem], list[Problem]]:
    """Returns problems to train on, and those of the evaluation sets."""
    writer = Writer(SEED)
    evaluation = [writer.write_problem() for _ in range(num_evaluation)]
    documents = []
    for _ in range(num):
        problem = writer.write_problem()
        source = writer.choose(evaluation, 0.01)
        documents.append(writer.leak(problem, source) if source else problem)
    return documents, evaluation


def make_scan(evaluation: list[Problem]) -> Callable[[list[Problem]], list[Found]]:
    """Returns the plain way: sets of n-grams, row by row."""
    lookup: dict[tuple[str, ...], str] = {}
    wholes: dict[str, str] = {}
    for number, problem in enumerate(evaluation):
        for gram in ngrams(words(problem.question), N) | ngrams(words(problem.solution), N):
            lookup.setdefault(gram, str(number))
        wholes.setdefault(sort_words(normalise(problem.question)), str(number))

    def scan(problems: list[Problem]) -> list[Found]:
        found: list[Found] = []
        for problem in problems:
            question = words(problem.question)
            grams = ngrams(question, N) | ngrams(words(problem.solution), N)
            shared = min((gram for gram in grams if gram in lookup), default=None)
            if shared is not None:
                found.append(("ngram", lookup[shared]))
                continue
            whole = wholes.get(sort_words(" ".join(question)))
            found.append(None if whole is None else ("whole", whole))
        return found

    return scan


def make_open_r1(evaluation: list[Problem]) -> Callable[[list[Problem]], list[Found]]:
    """Returns Open-R1's way: texts in lower case, and a pass over the rows per evaluation set."""

    def list_ngrams(text: str) -> list[str]:
        parts = " ".join(text.lower().strip().split()).split()
        return [" ".join(parts[i : i + N]) for i in range(len(parts) - N + 1)]

    lookups: list[dict[str, set[int]]] = [{} for _ in range(NUM_SETS)]
    for number, problem in enumerate(evaluation):
        for text in (problem.question, problem.solution):
            for gram in list_ngrams(text):
                lookups[number % NUM_SETS].setdefault(gram, set()).add(number)

    def scan(problems: list[Problem]) -> list[Found]:
        leaks = [False] * len(problems)
        for lookup in lookups:
            for index, problem in enumerate(problems):
                grams = set(list_ngrams(problem.question)) | set(list_ngrams(problem.solution))
                leaks[index] |= any(gram in lookup for gram in grams)
        return [("ngram", "") if leak else None for leak in leaks]

    return scan


def make_search(evaluation: list[Problem]) -> Callable[[list[Problem]], list[Found]]:
    """Returns our way."""
    entries = [(str(number), problem) for number, problem in enumerate(evaluation)]
    detector = LeakDetector(entries, [], PARAMS)

    def describe(match: Match | None) -> Found:
        return None if match is None else (match.reason, match.evaluation_id)

    return lambda problems: [describe(match) for match in detector.match_all(problems)]


_work: tuple[Callable[[list[Problem]], list[Found]], list[Problem]]


def _run_batch(start: int) -> tuple[float, list[Found]]:
    way, documents = _work
    begin = time.process_time()
    found = way(documents[start : start + BATCH])
    return time.process_time() - begin, found


def measure(
    way: Callable[[list[Problem]], list[Found]], documents: list[Problem]
) -> tuple[float, float, list[Found]]:
    """Returns the seconds that two processes take, by the clock and by the CPU, and what they find.

    The indexes of the evaluation problems are built before.
    """
    global _work  # noqa: PLW0603 - what the processes inherit, instead of having it sent
    _work = (way, documents)
    context = multiprocessing.get_context("fork")
    with context.Pool(NUM_PROCESSES) as pool:
        pool.map(abs, range(NUM_PROCESSES))  # they have started
        start = time.perf_counter()
        batches = pool.map(_run_batch, range(0, len(documents), BATCH), chunksize=1)
        seconds = time.perf_counter() - start
    cpu = sum(taken for taken, _ in batches)
    return seconds, cpu, [entry for _, found in batches for entry in found]


def main() -> None:
    """Prints the table, and fails if search and scan do not find the same."""
    num = int(sys.argv[1]) if len(sys.argv) > 1 else NUM_DOCUMENTS
    documents, evaluation = make_documents(num, NUM_EVALUATION)
    print(f"{num} documents, {NUM_EVALUATION} evaluation problems in {NUM_SETS} sets, ", end="")
    print(f"{NUM_PROCESSES} processes on {len(os.sched_getaffinity(0))} CPUs, {NUM_ROUNDS} rounds")
    ways = {
        "search": (make_search(evaluation), documents),
        "scan": (make_scan(evaluation), documents),
        "as Open-R1": (make_open_r1(evaluation), documents[::10]),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    found: dict[str, list[Found]] = {}
    for _ in range(NUM_ROUNDS):
        for name, (way, given) in ways.items():
            seconds, cpu, found[name] = measure(way, given)
            times[name].append((seconds / len(given) * 1e6, cpu / len(given) * 1e6))
            print(f"  {name}: {seconds:.1f} s, {cpu:.1f} s of CPU", flush=True)
        if found["search"] != found["scan"]:
            raise AssertionError("search and scan find different leaks")
    print("\n| way | us per document | us of CPU | CPU time / search's | ngram | whole |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, taken in times.items():
        ratios = [one / other for (_, one), (_, other) in zip(taken, times["search"], strict=True)]
        ratio = f"{fmean(ratios):.1f} ± {stdev(ratios) / len(ratios) ** 0.5:.1f}"
        seconds, cpu = (min(values) for values in zip(*taken, strict=True))
        sums = [sum(f is not None and f[0] == why for f in found[name]) for why in REASONS]
        print(f"| {name} | {seconds:.0f} | {cpu:.0f} | {ratio} | {sums[0]} | {sums[1]} |")


if __name__ == "__main__":
    main()
