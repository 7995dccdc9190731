"""Is a run on other hardware the same for all that matters? Two one-sided tests (TOST).

Source: Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15 (1987): two means are equivalent at
level alpha if the 1 - 2 alpha interval of their difference lies within a margin, set beforehand.
Here the runs of a recipe with several seeds are the sample, since rounding that differs acts on a
sampled trace as another seed does.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import fmean, variance
from typing import TYPE_CHECKING

from scipy.stats import t

if TYPE_CHECKING:
    from collections.abc import Sequence

# Set on 2026-11-25, before any run was compared by it: less than half of what SFT adds on the
# harder of the two tasks, and about what the five recorded seeds' means can tell apart.
MARGIN = 0.1  # of an accuracy in [0, 1]
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Equivalence:
    """The difference of two means of accuracies, in [-1, 1], and its 1 - 2 alpha interval."""

    recorded: float
    rebuilt: float
    low: float
    high: float

    @property
    def word(self) -> str:
        """Returns equivalent, different (even the nearest end is beyond the margin), or neither."""
        if -MARGIN < self.low <= self.high < MARGIN:
            return "equivalent"
        return "**different**" if self.low > MARGIN or self.high < -MARGIN else "undecided"


def compare_means(recorded: Sequence[float], rebuilt: Sequence[float]) -> Equivalence:
    """Returns how far the rebuilt accuracies are from the recorded ones, one of each per seed.

    Welch's interval; with a single rebuilt run, the recorded runs' variance stands for its own.

    Args:
        recorded: accuracies in [0, 1], two at least.
        rebuilt: the same of the other machine, one at least.
    """
    error, freedom = _standard_error(recorded, rebuilt)
    half_width = float(t.ppf(1 - ALPHA, freedom)) * error if error else 0.0
    difference = fmean(rebuilt) - fmean(recorded)
    return Equivalence(
        recorded=fmean(recorded),
        rebuilt=fmean(rebuilt),
        low=difference - half_width,
        high=difference + half_width,
    )


def _standard_error(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Returns that of the difference of the means, and its degrees of freedom."""
    if len(b) == 1:
        return sqrt(variance(a) * (1 + 1 / len(a))), len(a) - 1
    parts = [variance(values) / len(values) for values in (a, b)]
    if sum(parts) == 0:
        return 0.0, 1.0
    weights = [part**2 / (len(values) - 1) for part, values in zip(parts, (a, b), strict=True)]
    return sqrt(sum(parts)), sum(parts) ** 2 / sum(weights)
