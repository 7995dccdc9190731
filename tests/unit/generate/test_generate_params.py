"""Bounds of generate's parameters, starting from the shipped values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages._contract.params import load

PARAMS = Path(__file__).parents[3] / "params.yaml"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "/models/r1"}, "model must lie below the repository's root, not"),
        ({"model": "../r1"}, "model must lie below the repository's root, not"),
        ({"num_samples": 0}, "generate.num_samples must be >= 1, not 0"),
        ({"temperature": 0.0}, "all samples of a problem would be the same"),
        ({"temperature": -1.0}, "generate.temperature must be >= 0, not -1.0"),
        ({"top_p": 1.5}, r"generate.top_p must be in \(0, 1\], not 1.5"),
        ({"max_tokens": 1024}, "leaves no room for the prompt"),
    ],
)
def test_bounds_name_key_and_remedy(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(load(PARAMS, "generate"), **changes)
