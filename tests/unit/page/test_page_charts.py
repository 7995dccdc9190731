"""Charts as geometry, against values by hand."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages._page.charts import Ruler, Series, draw_lines, find_ticks, show


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0.42, 1.13, [0.4, 0.6, 0.8, 1, 1.2]),
        (-0.13, 0.08, [-0.2, -0.1, 0, 0.1]),
        (0, 3e-5, [0, 1e-5, 2e-5, 3e-5]),
        (5, 5, [2, 4, 6, 8]),
        (0, 0, [-0.5, -0.25, 0, 0.25, 0.5]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert find_ticks(low, high) == pytest.approx(ticks)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_hold_the_values_and_are_few(low: float, span: float) -> None:
    ticks = find_ticks(low, low + span)
    assert ticks[0] <= low + 1e-6 * span
    assert ticks[-1] >= low + span - 1e-6 * span
    assert 2 <= len(ticks) <= 7


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (1.5e-05, "1.5e-5"), (12.984210, "12.98"), (123456, "1.2e5")],
)
def test_numbers_have_four_digits(value: float, text: str) -> None:
    assert show(value) == text


def test_line_and_band_are_where_the_axes_say() -> None:
    series = Series("reward", [(1, 0.0), (3, 1.0)], [(1, 0.0, 0.5), (3, 0.5, 1.0)])
    chart = draw_lines("Reward", [series])
    assert chart is not None
    (line,) = chart.lines
    # 46 to 330 from left to right, 176 up to 10.
    assert line.path == "M46 176L330 10"
    assert line.band == "M46 93L330 10L330 93L46 176Z"
    assert line.dots[1:] == [(330, 10, "reward, step 3: 1")]
    assert chart.y_ticks[::4] == [(176, "0"), (10, "1")]
    assert chart.x_ticks == [(46, "1"), (188, "2"), (330, "3")]
    assert chart.zero is None
    assert chart.description == "reward: 0 at step 1, 1 at step 3, between 0 and 1."


def test_axis_has_a_line_where_values_change_their_sign() -> None:
    chart = draw_lines("Loss", [Series("loss", [(1, -1.0), (2, 1.0)])])
    assert chart is not None
    assert chart.zero == 93


def test_one_step_and_equal_values_can_be_drawn() -> None:
    chart = draw_lines("Loss", [Series("loss", [(1, 2.0)])])
    assert chart is not None
    assert chart.lines[0].path.startswith("M46 ")


def test_values_that_are_no_numbers_are_left_out() -> None:
    chart = draw_lines("Loss", [Series("loss", [(1, nan), (2, 1.0), (3, inf), (4, 2.0)])])
    assert chart is not None
    assert [dot[2] for dot in chart.lines[0].dots] == ["loss, step 2: 1", "loss, step 4: 2"]
    assert draw_lines("Loss", [Series("loss", [(1, nan)])]) is None


def test_ruler_holds_its_values_and_zero() -> None:
    ruler = Ruler.around([-0.1, 0.3])
    assert (ruler.at(-0.1), ruler.at(0.3)) == (14, 206)
    assert ruler.ticks == [(14, -0.1), (62, 0), (110, 0.1), (158, 0.2), (206, 0.3)]
    assert Ruler.around([0.2, 0.4]).low == 0
    assert Ruler.around([0.0]) == Ruler(-1.0, 1.0)
