"""Other data sets' rows in the training data, by weight: R1's 600,000 and 200,000 (B.3.3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import read_jsonl
from stages._contract.seeding import derive

if TYPE_CHECKING:
    from collections.abc import Mapping

Row = dict[str, Any]


def read_mix(weights: Mapping[str, float], seed: int) -> dict[str, list[Row]]:
    """Returns the rows to add by the file that they come from, in the order of the weights."""
    return {path: _read_copies(path, weight, seed) for path, weight in weights.items()}


def _read_copies(path: str, weight: float, seed: int) -> list[Row]:
    """Returns each row of another data set `weight` times, in its order.

    What is left of a weight behind the point is a share of the rows, chosen by the seed, that have
    one copy more: 2.5 is each row twice, and half of them three times.

    Raises:
        ValueError: the file is corrupted or empty, or a row has no prompt or no completion.
    """
    rows = read_jsonl(Path(path))
    for number, row in enumerate(rows):
        if not row.get("prompt") or not row.get("completion"):
            raise ValueError(
                f"{path}:{number + 1} has no prompt and completion: filter.mix takes what filter "
                f"writes into train.jsonl, or prompts into traces.jsonl"
            )
    whole, rest = divmod(weight, 1)
    order = sorted(range(len(rows)), key=lambda i: (derive(seed, "filter.mix", path, i), i))
    chosen = set(order[: round(rest * len(rows))])
    return [row for i, row in enumerate(rows) for _ in range(int(whole) + (i in chosen))]
