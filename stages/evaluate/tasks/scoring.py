"""What all scorers share, and the first of them: the response format that `grpo` rewards.

A task file names a scorer's `process_results`; its module has it as `SCORER`. A response counts as
correct only if the scorer finds an answer where the task asked for it. All standard errors treat
problems, not samples, as the independent units.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import sqrt
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from stages.filter.verify import is_correct_anywhere, is_equal, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Row = dict[str, Any]
Problem = dict[str, Any]
Measures = dict[str, float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scorer:
    """How a task reads responses and judges them.

    `read` returns the answer in a response, or None if there is none. `judge` says of several
    answers to a problem whether they are right; the problem is as `prepare` returns it, with what
    the question's template and the judge need. `prepare` raises ValueError for one that nothing
    can be scored against. `columns` are the problem's fields besides id, task, prompt and answer.
    """

    read: Callable[[str], str | None]
    judge: Callable[[Sequence[str], Problem], list[bool]]
    prepare: Callable[[Problem], Problem] = dict
    columns: tuple[str, ...] = ()
    has_reference: bool = True  # problems have an answer
    has_votes: bool = True  # equal answers can be counted: R1's cons@k
    keeps_answers: bool = True  # samples.jsonl has the answers beside the responses
    # The columns that `judge` needs, if they are small enough to be kept beside the answers; None:
    # only the problems' own file can be judged by.
    kept: tuple[str, ...] | None = ()
    measure: Callable[[Sequence[tuple[Problem, Row]]], Measures] | None = None
    # lm-eval scores each response, and so do the rows of samples.jsonl.
    _judged: dict[tuple[Any, ...], bool] = field(default_factory=dict, repr=False, compare=False)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Returns the names of what `process_results` returns."""
        votes = ("majority_accuracy",) if self.has_votes else ()
        return ("accuracy", *votes, "format_rate")

    def score(
        self, responses: Sequence[str], problem: Problem
    ) -> tuple[list[str | None], list[bool]]:
        """Returns each response's answer, and whether it is right; without an answer it is not."""
        answers = [self.read(text) for text in responses]
        return answers, self.score_answers(answers, problem)

    def score_answers(self, answers: Sequence[str | None], problem: Problem) -> list[bool]:
        """Returns whether each answer is right; None is not."""
        keys = [(problem.get("id"), problem.get("answer"), answer) for answer in answers]
        new = {
            key: answer
            for key, answer in zip(keys, answers, strict=True)
            if answer is not None and key not in self._judged
        }
        if new:
            self._judged.update(zip(new, self.judge(list(new.values()), problem), strict=True))
        return [self._judged.get(key, False) for key in keys]

    def majority(self, answers: Sequence[str | None], problem: Problem) -> bool:
        """Returns whether the most frequent answer is right (R1's cons@k).

        Answers are compared as text; None has no vote; a tie goes to the answer that was given
        first. False if nobody votes.
        """
        votes = Counter(answer for answer in answers if answer is not None)
        if not votes:
            return False
        return self.score_answers([max(votes, key=votes.__getitem__)], problem)[0]

    def process_results(
        self, doc: Mapping[str, Any], results: Sequence[Sequence[str]]
    ) -> dict[str, float]:
        """Returns one problem's metrics for lm-eval, each in [0, 1].

        Args:
            doc: a row of the problems.
            results: one list, of the problem's responses (the filter `take_first_k` makes it).
        """
        (responses,) = results
        problem = self.prepare(dict(doc))
        answers, correct = self.score(responses, problem)
        metrics = {"accuracy": fmean(correct)}
        if self.has_votes:
            metrics["majority_accuracy"] = float(self.majority(answers, problem))
        return {**metrics, "format_rate": fmean(answer is not None for answer in answers)}

    def process_docs(self, dataset: Any) -> Any:
        """Returns lm-eval's `datasets.Dataset` with each problem prepared."""
        return dataset.map(self.prepare)

    def summarise(self, samples: Sequence[Row], problems: Mapping[str, Problem]) -> Row:
        """Returns the accuracies of one cell with their standard errors; None where undefined.

        Args:
            samples: one per problem, as samples.jsonl has them.
            problems: by id, as `prepare` returns them.
        """
        majority = None
        if self.has_votes:
            majority = [self.majority(self.answers_of(row), problems[row["id"]]) for row in samples]
        results: Row = summarise(samples, majority)
        if self.measure is not None:
            results |= self.measure([(problems[row["id"]], row) for row in samples])
        return results

    def answers_of(self, row: Row) -> Sequence[str | None]:
        """Returns the answers of a row of samples.jsonl; None where there is none."""
        if self.keeps_answers:
            answers: list[str | None] = row["answers"]
            return answers
        return [self.read(text) for text in row["responses"]]


def _read(text: str) -> str | None:
    response = parse(text)
    return response.answer.strip() if response else None


def _judge(answers: Sequence[str], problem: Problem) -> list[bool]:
    return [is_equal(answer, problem["answer"]) for answer in answers]


def _prepare(problem: Problem) -> Problem:
    is_equal(problem["answer"], problem["answer"])
    return problem


def _measure(cells: Sequence[tuple[Problem, Row]]) -> Measures:
    """Returns the share that is right in any format: how much of a gain is the format alone."""
    shares = [
        fmean(is_correct_anywhere(text, problem["answer"]) for text in row["responses"])
        for problem, row in cells
    ]
    return {"flexible_accuracy": fmean(shares), "flexible_accuracy_stderr": stderr(shares)}


SCORER = Scorer(read=_read, judge=_judge, prepare=_prepare, keeps_answers=False, measure=_measure)
process_results = SCORER.process_results


def summarise(
    rows: Sequence[Row], majority: Sequence[bool] | None
) -> dict[str, float | int | None]:
    """Returns the accuracies of one cell with their standard errors; None where undefined.

    Args:
        rows: one per problem, with `formatted` and `correct` (a bool per sample) and `num_tokens`.
        majority: for each row, whether its majority answer is right; None: answers have no votes.
    """
    accuracy = [fmean(row["correct"]) for row in rows]
    format_rate = [fmean(row["formatted"]) for row in rows]
    votes = [float(value) for value in majority or ()]
    return {
        "num_problems": len(rows),
        "num_samples": sum(len(row["correct"]) for row in rows),
        "accuracy": fmean(accuracy),
        "accuracy_stderr": stderr(accuracy),
        "majority_accuracy": fmean(votes) if votes else None,
        "majority_accuracy_stderr": stderr(votes),
        "format_rate": fmean(format_rate),
        "format_rate_stderr": stderr(format_rate),
        "accuracy_given_format": ratio(accuracy, format_rate),
        "accuracy_given_format_stderr": ratio_stderr(accuracy, format_rate),
        "mean_tokens": fmean(num for row in rows for num in row["num_tokens"]),
    }


def stderr(values: Sequence[float]) -> float | None:
    """Returns the standard error of the mean of one value per problem; None for one problem.

    With several samples per problem the value is their mean, so the error is clustered by problem.
    """
    return stdev(values) / sqrt(len(values)) if len(values) > 1 else None


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float | None:
    """Returns sum(numerators) / sum(denominators), or None if that is 0 / 0."""
    total = sum(denominators)
    return sum(numerators) / total if total else None


def ratio_stderr(numerators: Sequence[float], denominators: Sequence[float]) -> float | None:
    """Returns the standard error of `ratio` over problems, by linearisation (delta method).

    r = y / x has the variance of the mean of y_i - r x_i, divided by the square of x's mean
    (Cochran, Sampling Techniques, 1977, equation 6.13). For one sample per problem that is, but for
    n / (n - 1), the binomial r (1 - r) / (number in the format). None where it is undefined.
    """
    value, error = ratio(numerators, denominators), None
    if value is not None:
        residuals = [y - value * x for y, x in zip(numerators, denominators, strict=True)]
        error = stderr(residuals)
    return error / fmean(denominators) if error is not None else None
