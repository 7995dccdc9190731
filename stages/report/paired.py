"""Paired differences: two models on the same problems.

Source: Miller, Adding Error Bars to Evals (arXiv:2411.00640), section 4.2: the standard error of
the mean of the per-problem differences. Since both models find the same problems hard, it is
smaller than what the two models' own standard errors suggest.
"""

from __future__ import annotations

from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Row = dict[str, Any]


def measure_accuracy(rows: Iterable[Row]) -> dict[str, float]:
    """Returns the accuracy in [0, 1] by problem id: the mean over a problem's responses."""
    return {row["id"]: fmean(row["correct"]) for row in rows}


def compare(
    first: Mapping[str, float], second: Mapping[str, float], confidence: float
) -> dict[str, float | int]:
    """Returns second - first: difference, its standard error, and a normal confidence interval.

    num_gained and num_lost count the problems on which the second is better and worse.

    Args:
        first: accuracy in [0, 1] by problem id.
        second: the same of the other model; the same problems, two at least.
        confidence: of the interval, in (0, 1).
    """
    assert first.keys() == second.keys(), "the same problems"
    differences = [second[name] - first[name] for name in sorted(first)]
    difference = fmean(differences)
    stderr = stdev(differences) / len(differences) ** 0.5
    half_width = NormalDist().inv_cdf(0.5 + confidence / 2) * stderr
    return {
        "difference": difference,
        "stderr": stderr,
        "ci_low": difference - half_width,
        "ci_high": difference + half_width,
        "num_gained": sum(value > 0 for value in differences),
        "num_lost": sum(value < 0 for value in differences),
        "num_problems": len(differences),
    }
