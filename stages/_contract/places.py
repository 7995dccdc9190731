"""Where a cell's files lie. A cell says which run of a stage is meant, as the command line does.

Its keys: `track`, a folder of tracks/, and `section`, one of the stage's in its parameters; `model`
and `task` are evaluate's. {} is the stage's run in the core graph.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    Cell = Mapping[str, str]

KEYS = ("track", "section", "model", "task")
TRACKS = Path("tracks")


def name_of(stage: str, cell: Cell) -> str:
    """Returns the name of the cell's manifest in runs/ and of its folder in work/."""
    return "-".join([stage, *cell.values()])


def params_of(cell: Cell) -> Path:
    """Returns the file with the parameters of the cell's track."""
    return TRACKS / cell["track"] / "params.yaml"


def below(top: str, cell: Cell) -> Path:
    """Returns the folder `top` for the core graph, and one below it for a track."""
    return Path(top, cell["track"]) if "track" in cell else Path(top)


def out_of(stage: str, cell: Cell) -> Path:
    """Returns the folder that the cell writes: artifacts/STAGE, or artifacts/TRACK/SECTION.

    A stage whose params.py has a function `out` says it there.
    """
    declared: Any = importlib.import_module(f"stages.{stage}.params")
    if hasattr(declared, "out"):
        out: Path = declared.out(cell)
        return out
    return below("artifacts", cell) / cell.get("section", stage)


def metrics_of(stage: str, params: Any, cell: Cell) -> dict[str, Path]:
    """Returns the files of its metrics by name: STAGE in metrics/STAGE.json or .../SECTION.json.

    A stage whose params.py has a function `metrics` says it there.
    """
    declared: Any = importlib.import_module(f"stages.{stage}.params")
    if hasattr(declared, "metrics"):
        metrics: dict[str, Path] = declared.metrics(params, cell)
        return metrics
    return {stage: below("metrics", cell) / f"{cell.get('section', stage)}.json"}
