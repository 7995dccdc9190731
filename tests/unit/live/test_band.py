"""Bands: what they are made of, and when a run has left one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from stages._live.band import Band, Judge, choose_window, count_false_alarms, make_band, smooth
from stages._live.rows import Entry

if TYPE_CHECKING:
    from collections.abc import Sequence


def judge(
    values: Sequence[float], lower: float = 0.0, upper: float = 1.0, window: int = 1
) -> tuple[Judge, list[tuple[str, int, float]]]:
    """Returns who judged the values against the same limits at all steps, and what left when."""
    steps = range(1, len(values) + 1)
    band = Band(mean=[0.5] * len(steps), lower=[lower] * len(steps), upper=[upper] * len(steps))
    found = Judge(steps, window, {"loss": band})
    left = [
        (departure.name, departure.step, departure.value)
        for step, value in zip(steps, values, strict=True)
        for departure in found.add(Entry(step, 0.0, {"loss": value}))
    ]
    return found, left


def test_smoothing_is_over_the_last_rows() -> None:
    assert smooth([1.0, 3.0, 5.0, 10.0], 2) == [1.0, 2.0, 4.0, 7.5]
    assert smooth([1.0, 3.0], 1) == [1.0, 3.0]
    assert [choose_window(num) for num in (1, 12, 13, 18, 1000)] == [1, 2, 2, 3, 20]


def test_band_is_the_interval_for_one_more_run() -> None:
    """By hand: at each row s² is 1 and 9, whose mean is 5; t for 2 degrees of freedom is 9.925."""
    band = make_band([[0.0, 0.0], [1.0, 3.0], [2.0, 6.0]], 1)
    assert band.mean == [1.0, 3.0]
    widths = [9.924843 * math.sqrt(4 / 3) * math.sqrt(variance) for variance in (3, 7)]
    assert band.lower == pytest.approx([1 - widths[0], 3 - widths[1]])
    assert band.upper == pytest.approx([1 + widths[0], 3 + widths[1]])


@pytest.mark.parametrize("num", [1, 2])
def test_too_few_runs_have_a_mean_and_no_limits(num: int) -> None:
    assert make_band([[1.0, 2.0]] * num, 1) == Band(mean=[1.0, 2.0], lower=None, upper=None)


def test_runs_that_are_all_equal_have_no_limits() -> None:
    assert make_band([[1.0, 2.0]] * 5, 1) == Band(mean=[1.0, 2.0], lower=None, upper=None)


def test_three_rows_outside_are_a_departure_that_is_said_once() -> None:
    found, left = judge([0.5, 2.0, 2.0, 0.5, 3.0, 4.0, 5.0, 6.0])
    assert left == [("loss", 5, 5.0)]
    assert list(found.left) == ["loss"]


def test_run_that_comes_back_is_on_track_and_was_not() -> None:
    found, left = judge([2.0, 2.0, 2.0, 0.5, -1.0, -1.0, -1.0, 0.5])
    assert [(name, step) for name, step, _ in left] == [("loss", 1), ("loss", 5)]
    assert (list(found.left), list(found.ever_left)) == ([], ["loss"])


def test_single_outliers_are_smoothed() -> None:
    assert judge([0.5, 1.4, 0.5, 1.4, 0.5, 1.4], window=2)[1] == []
    assert judge([1.4, 1.4, 1.4, 1.4], window=2)[1] == [("loss", 1, 1.4)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_said_at_once(value: float) -> None:
    _, left = judge([0.5, value, value])
    assert [(name, step) for name, step, _ in left] == [("loss", 2)]


def test_steps_and_figures_without_a_band_are_left_out() -> None:
    found, _ = judge([0.5])
    assert list(found.add(Entry(7, 0.0, {"loss": 9.0}))) == []
    unlimited = Judge([1, 2, 3], 1, {"loss": Band(mean=[0.0] * 3, lower=None, upper=None)})
    figures = {"loss": 9.0, "other": 1.0}
    assert [list(unlimited.add(Entry(step, 0.0, figures))) for step in (1, 2, 3)] == [[], [], []]


def test_false_alarms_are_counted_by_leaving_each_run_out() -> None:
    alike = [{"loss": [1.0 + 0.1 * number, 1.0, 0.5, 0.5]} for number in range(4)]
    assert count_false_alarms(alike, 1) == 0
    assert count_false_alarms([*alike, {"loss": [90.0, 90.0, 90.0, 90.0]}], 1) == 1
    assert count_false_alarms(alike[:3], 1) is None
