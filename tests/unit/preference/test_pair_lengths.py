"""Pairs with a text that is too long: what the message says is a way out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages._contract.params import load
from stages.preference.stage import check_lengths

PARAMS = load(Path(__file__).parents[3] / "params.yaml", "preference")


def left(num_trained: int, num_held_out: int) -> Any:
    return SimpleNamespace(train_dataset=[0] * num_trained, eval_dataset=[0] * num_held_out)


def test_number_that_was_left_out() -> None:
    assert check_lengths(left(6, 2), 6, 2, PARAMS) == 0
    assert check_lengths(left(5, 1), 6, 2, replace(PARAMS, drop_longer=True)) == 2


@pytest.mark.parametrize(
    ("kept", "drop_longer", "remedy"),
    [
        ((5, 1), False, "2 of 8 pairs have a longer text: raise it, or set drop_longer to true"),
        (
            (0, 2),
            True,
            "6 of 8 pairs have a longer text: raise it, as none is left to be trained on",
        ),
        ((6, 0), True, "2 of 8 pairs have a longer text: raise it, as none is left to be held out"),
    ],
)
def test_message_names_no_remedy_that_is_in_force(
    kept: tuple[int, int],
    drop_longer: bool,  # noqa: FBT001
    remedy: str,
) -> None:
    params = replace(PARAMS, drop_longer=drop_longer)
    with pytest.raises(ValueError, match=f"preference.max_length is .* tokens, but {remedy}$"):
        check_lengths(left(*kept), 6, 2, params)
