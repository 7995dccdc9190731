"""Equivalence against values worked out by hand."""

from __future__ import annotations

import pytest

from stages._audit.equivalence import MARGIN, compare_means

# Student's t at 0.95, from tables.
T4, T8 = 2.1318, 1.8595


def test_single_run_is_held_against_the_spread_of_the_recorded_ones() -> None:
    # Mean 0.8, sample variance 0.00025: standard error sqrt(0.00025 * 6 / 5).
    found = compare_means([0.78, 0.79, 0.80, 0.81, 0.82], [0.83])
    half_width = T4 * (0.00025 * 6 / 5) ** 0.5
    assert found.recorded == pytest.approx(0.8)
    assert found.rebuilt == 0.83
    assert found.low == pytest.approx(0.03 - half_width, abs=1e-5)
    assert found.high == pytest.approx(0.03 + half_width, abs=1e-5)
    assert found.word == "equivalent"


def test_several_runs_are_compared_by_their_means() -> None:
    recorded, rebuilt = [0.78, 0.79, 0.80, 0.81, 0.82], [0.68, 0.69, 0.70, 0.71, 0.72]
    found = compare_means(recorded, rebuilt)
    half_width = T8 * (2 * 0.00025 / 5) ** 0.5  # equal variances: 8 degrees of freedom
    assert found.low == pytest.approx(-0.1 - half_width, abs=1e-5)
    assert found.high == pytest.approx(-0.1 + half_width, abs=1e-5)
    assert found.word == "undecided"  # -0.1 is just the margin


@pytest.mark.parametrize(
    ("rebuilt", "word"),
    [
        ([0.0], "equivalent"),
        ([MARGIN - 0.01], "equivalent"),
        ([MARGIN + 0.01], "**different**"),
        ([0.0, 0.0], "equivalent"),
    ],
)
def test_runs_without_any_spread(rebuilt: list[float], word: str) -> None:
    assert compare_means([0.0, 0.0, 0.0], rebuilt).word == word


def test_noise_is_no_equivalence() -> None:
    """Failing to find a difference does not make two machines the same."""
    found = compare_means([0.6, 0.9, 0.7, 0.8, 1.0], [0.8])
    assert found.low < -MARGIN
    assert found.high > MARGIN
    assert found.word == "undecided"
