"""What a run leaves in git, as the checks read it."""

from __future__ import annotations

import json
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


def read_json(path: Path) -> Any:
    """Returns a JSON file's value."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_run(root: Path, stage: str) -> dict[str, Any]:
    """Returns the manifest of a stage, by DVC's name for it: `evaluate@sft-arithmetic`."""
    run: dict[str, Any] = read_json(root / "runs" / f"{stage.replace('@', '-')}.json")
    return run


def measure_accuracy(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the accuracy in [0, 1] by problem id: the mean over a problem's responses."""
    return {row["id"]: fmean(row["correct"]) for row in rows}
