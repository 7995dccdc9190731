"""Seeds depend on names alone and are the same everywhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stages._contract.seeding import derive


def test_values_are_pinned() -> None:
    # A change here changes every sample of every data set.
    assert derive(0, "generate", "arithmetic-5fdd73ab5384", 0) == 1_607_296_470
    assert derive(0, "generate", "arithmetic-5fdd73ab5384", 1) == 2_045_377_938


def test_parts_do_not_run_together() -> None:
    assert derive(0, "ab", "c") != derive(0, "a", "bc")
    assert derive(0, "1") != derive(0, 1)
    assert derive(0, 1) != derive(1, 0)


@given(st.integers(), st.lists(st.text() | st.integers(), max_size=3))
def test_seed_fits_every_generator(seed: int, parts: list[str | int]) -> None:
    assert 0 <= derive(seed, *parts) < 2**31
    assert derive(seed, *parts) == derive(seed, *parts)
