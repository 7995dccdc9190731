"""Bands in which the curve of a further run lies, from the curves of runs with other seeds.

A curve is smoothed first: its value at a row is the mean of the last `window` rows. At each row
the band is a prediction interval for the value of one more run: mean ± t * s * sqrt(1 + 1/n), with
t the quantile of Student's distribution with n - 1 degrees of freedom for LEVEL, and s² half the
variance over the runs at the row, half its mean over all rows. The second half is there because n
is small: at some rows few runs agree by chance, and the band would have no width.

A run leaves the band when it is outside at PATIENCE rows in a row, or when a figure is no number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stages._live.rows import Entry

LEVEL = 0.99
PATIENCE = 3
MIN_RUNS = 3  # of two, the variance says next to nothing
_WINDOWS_PER_RUN, _MAX_WINDOW = 6, 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """A figure's smoothed mean and limits by row; no limits where runs are too few or all equal."""

    mean: list[float]
    lower: list[float] | None
    upper: list[float] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Departure:
    """A figure that is outside of its band."""

    name: str
    step: int  # the first one outside
    value: float  # the smoothed one, at the step where it was noticed
    lower: float
    upper: float


def choose_window(num_rows: int) -> int:
    """Returns how many rows are smoothed into one."""
    return max(1, min(_MAX_WINDOW, num_rows // _WINDOWS_PER_RUN))


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Returns the mean of the last `window` values at each; of fewer at the beginning."""
    parts = [values[max(0, end - window) : end] for end in range(1, len(values) + 1)]
    return [math.fsum(part) / len(part) for part in parts]


def make_band(curves: Sequence[Sequence[float]], window: int) -> Band:
    """Returns the band of runs' curves of one figure, all with the same rows."""
    num = len(curves)
    rows = list(zip(*(smooth(curve, window) for curve in curves), strict=True))
    means = [math.fsum(row) / num for row in rows]
    if num < MIN_RUNS:
        return Band(mean=means, lower=None, upper=None)
    from scipy.stats import t  # noqa: PLC0415 - takes a second, and only making a band needs it

    variances = [
        math.fsum((value - mean) ** 2 for value in row) / (num - 1)
        for row, mean in zip(rows, means, strict=True)
    ]
    typical = math.fsum(variances) / len(variances)
    if typical == 0:  # the runs do not say how much others may differ
        return Band(mean=means, lower=None, upper=None)
    factor = float(t.ppf((1 + LEVEL) / 2, num - 1)) * math.sqrt(1 + 1 / num)
    widths = [factor * math.sqrt((variance + typical) / 2) for variance in variances]
    pairs = list(zip(means, widths, strict=True))
    return Band(
        mean=means,
        lower=[mean - width for mean, width in pairs],
        upper=[mean + width for mean, width in pairs],
    )


@dataclass(slots=True)
class Judge:
    """Follows a run's figures against their bands."""

    steps: Sequence[int]
    window: int
    bands: Mapping[str, Band]
    _recent: dict[str, list[float]] = field(default_factory=dict)
    _outside: dict[str, list[int]] = field(default_factory=dict)
    left: dict[str, Departure] = field(default_factory=dict)  # now outside, by figure
    ever_left: dict[str, Departure] = field(default_factory=dict)

    def add(self, entry: Entry) -> Iterator[Departure]:
        """Yields the figures that have left their bands with this row."""
        if entry.step not in self.steps:
            return
        row = self.steps.index(entry.step)
        for name, band in self.bands.items():
            value = entry.figures.get(name)
            if value is None or band.lower is None or band.upper is None:
                continue
            recent = self._recent.setdefault(name, [])
            recent.append(value)
            del recent[: -self.window]
            mean = math.fsum(recent) / len(recent)
            outside = self._outside.setdefault(name, [])
            if band.lower[row] <= mean <= band.upper[row]:
                outside.clear()
                self.left.pop(name, None)
                continue
            outside.append(entry.step)
            is_number = math.isfinite(value)
            if name not in self.left and (len(outside) >= PATIENCE or not is_number):
                found = Departure(
                    name=name,
                    step=outside[0],
                    value=mean if is_number else value,
                    lower=band.lower[row],
                    upper=band.upper[row],
                )
                self.left[name] = found
                self.ever_left.setdefault(name, found)
                yield found


def count_false_alarms(runs: Sequence[Mapping[str, Sequence[float]]], window: int) -> int | None:
    """Returns how many of the runs leave the bands of the others; None if those are too few.

    Args:
        runs: the curves of each by figure, all with the same rows.
        window: of the smoothing.
    """
    from stages._live.rows import Entry  # noqa: PLC0415 - else only types need it

    if len(runs) <= MIN_RUNS:
        return None
    num = 0
    for left_out in runs:
        others = [run for run in runs if run is not left_out]
        bands = {name: make_band([run[name] for run in others], window) for name in left_out}
        num_rows = len(next(iter(left_out.values())))
        judge = Judge(range(num_rows), window, bands)
        for row in range(num_rows):
            figures = {name: curve[row] for name, curve in left_out.items()}
            list(judge.add(Entry(row, 0.0, figures)))
        num += bool(judge.ever_left)
    return num
