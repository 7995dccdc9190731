"""Scores responses and sums them up; `process_results` is what the task files name.

A response counts as correct only if it is in the response format: the same check rewards it in
`grpo`. All standard errors treat problems, not samples, as the independent units.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from math import sqrt
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from stages.filter.verify import is_correct, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Row = dict[str, Any]


@cache  # lm-eval scores each response, and so do the rows of samples.jsonl
def score(response: str, gold: str) -> tuple[bool, bool]:
    """Returns whether the response is in the format, and whether it is also right.

    Raises:
        ValueError: the gold answer cannot be parsed.
    """
    return parse(response) is not None, is_correct(response, gold)


def majority_is_correct(responses: Sequence[str], gold: str) -> bool:
    """Returns whether the most frequent answer is right (R1's cons@k).

    Answers are compared as text; those not in the format have no vote; a tie goes to the answer
    that was given first. False if nobody votes.
    """
    votes = Counter(
        parsed.answer.strip() for text in responses if (parsed := parse(text)) is not None
    )
    if not votes:
        return False
    winner = max(votes, key=votes.__getitem__)
    return any(
        score(text, gold)[1]
        for text in responses
        if (parsed := parse(text)) is not None and parsed.answer.strip() == winner
    )


def process_results(doc: Mapping[str, Any], results: Sequence[Sequence[str]]) -> dict[str, float]:
    """Returns one problem's metrics for lm-eval, each in [0, 1].

    Args:
        doc: a row of the problems, with `answer`.
        results: one list, of the problem's responses (the filter `take_first_k` makes it).
    """
    (responses,) = results
    scores = [score(text, doc["answer"]) for text in responses]
    return {
        "accuracy": fmean(correct for _, correct in scores),
        "majority_accuracy": float(majority_is_correct(responses, doc["answer"])),
        "format_rate": fmean(formatted for formatted, _ in scores),
    }


def summarise(rows: Sequence[Row], majority: Sequence[bool]) -> dict[str, float | int | None]:
    """Returns the accuracies of one cell with their standard errors; None where undefined.

    Args:
        rows: one per problem, with `formatted` and `correct` (a bool per sample) and `num_tokens`.
        majority: for each row, whether its majority answer is right.
    """
    accuracy = [fmean(row["correct"]) for row in rows]
    format_rate = [fmean(row["formatted"]) for row in rows]
    return {
        "num_problems": len(rows),
        "num_samples": sum(len(row["correct"]) for row in rows),
        "accuracy": fmean(accuracy),
        "accuracy_stderr": stderr(accuracy),
        "majority_accuracy": fmean(majority),
        "majority_accuracy_stderr": stderr([float(value) for value in majority]),
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
