"""Line charts and rulers as geometry: the template makes SVG of it, whose colours are CSS's."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 340, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 34
_NUM_TICKS = 4
_PAD = 14  # of a ruler, for half of a label
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """A line, and the lowest and highest value at steps where there are several runs."""

    name: str
    points: Sequence[Point]
    band: Sequence[tuple[float, float, float]] = ()  # step, low, high


@dataclass(frozen=True, slots=True)
class Line:
    """A series in pixels; dots have what they say."""

    name: str
    path: str
    band: str
    dots: list[tuple[float, float, str]]


@dataclass(frozen=True, slots=True)
class Chart:
    """What the template draws."""

    title: str
    description: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    zero: float | None  # where the y axis has it, if within
    lines: list[Line]
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM
    width: int = WIDTH
    height: int = HEIGHT


def find_ticks(low: float, high: float, num: int = _NUM_TICKS) -> list[float]:
    """Returns round values around [low, high], `num` steps or about that many.

    A step is 1, 2, 2.5 or 5 times a power of ten.
    """
    if high <= low:
        pad = abs(low) or 1.0
        low, high = low - pad / 2, high + pad / 2
    raw = (high - low) / num
    power = 10.0 ** floor(log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(step * index, 12) for index in range(first, last + 1)]


def show(value: float) -> str:
    """Returns a number for an axis or a table, with four digits that count."""
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e5:  # noqa: PLR2004 - beyond, digits are hard to count
        return f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


def draw_lines(title: str, series: Sequence[Series]) -> Chart | None:
    """Returns the chart of the series over their steps, or None if no value is finite."""
    series = [
        Series(s.name, points, s.band)
        for s in series
        if (points := [p for p in s.points if isfinite(p[1])])
    ]
    if not series:
        return None
    steps = [x for s in series for x, _ in s.points]
    values = [y for s in series for _, y in s.points]
    values += [y for s in series for _, *both in s.band for y in both]
    low, high = min(values), max(values)
    if 0 < low < 0.4 * high or (low >= 0 and high <= 1 and high - low > 0.3):  # noqa: PLR2004
        low = 0.0  # where that costs little of the height, the axis begins with nothing
    ticks = find_ticks(low, high)
    first, last = min(steps), max(steps)

    def place(x: float, y: float) -> Point:
        span = (last - first) or 1
        right = _LEFT + (WIDTH - _LEFT - _RIGHT) * (x - first) / span
        part = (y - ticks[0]) / (ticks[-1] - ticks[0])
        return round(right, 1), round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * part, 1)

    lines = []
    for s in series:
        dots = [(*place(x, y), f"{s.name}, step {x:g}: {show(y)}") for x, y in s.points]
        edge = [place(x, high) for x, _, high in s.band]
        edge += [place(x, low) for x, low, _ in reversed(s.band)]
        lines.append(Line(s.name, _join(dots), f"{_join(edge)}Z" if edge else "", dots))
    x_ticks = [t for t in find_ticks(first, last, 5) if first <= t <= last and t == int(t)]
    return Chart(
        title=title,
        description="; ".join(_describe(s) for s in series) + ".",
        x_ticks=[(place(t, ticks[0])[0], f"{t:g}") for t in x_ticks],
        y_ticks=[(place(first, t)[1], show(t)) for t in ticks],
        zero=place(first, 0)[1] if ticks[0] < 0 < ticks[-1] else None,
        lines=lines,
    )


def _join(points: Sequence[tuple[float, ...] | tuple[float, float, str]]) -> str:
    return "M" + "L".join(f"{p[0]:g} {p[1]:g}" for p in points)


def _describe(series: Series) -> str:
    """Returns a line in words, for whoever does not see it."""
    (first, start), (last, end) = series.points[0], series.points[-1]
    values = [y for _, y in series.points]
    text = f"{series.name}: {show(start)} at step {first:g}, {show(end)} at step {last:g}"
    return f"{text}, between {show(min(values))} and {show(max(values))}"


@dataclass(frozen=True, slots=True)
class Ruler:
    """A scale for the rows of a table: one axis above, a mark in each row."""

    low: float
    high: float
    width: int = 220

    @classmethod
    def around(cls, values: Sequence[float]) -> Ruler:
        """Returns a scale that holds the values and 0, or all shares if there is nothing else."""
        low, high = min(0.0, *values), max(0.0, *values)
        return cls(low, high) if low < high else cls(-1.0, 1.0)

    def at(self, value: float) -> float:
        """Returns a value's place in pixels."""
        part = (value - self.low) / (self.high - self.low)
        return round(_PAD + (self.width - 2 * _PAD) * part, 1)

    @property
    def ticks(self) -> list[tuple[float, float]]:
        """Returns the places of round values, and the values."""
        ticks = find_ticks(self.low, self.high)
        return [(self.at(tick), tick) for tick in ticks if self.low <= tick <= self.high]
