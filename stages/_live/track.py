"""Is a run on track? Its curves as text, beside the bands of the recorded runs.

`python -m stages track` reads the log of a finished run, or the live log of one that is running.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from stages._contract.places import name_of, out_of
from stages._live.band import Departure, Judge, smooth
from stages._live.follow import LIVE
from stages._live.reference import (
    TRAINED,
    Reference,
    find_differences,
    list_cells,
    list_params,
    load_reference,
    read_curve,
)
from stages._live.rows import Entry, LiveLog
from stages._live.status import show_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from stages._contract.places import Cell
    from stages._live.band import Band

_BLOCKS = "▁▂▃▄▅▆▇█"
_MAX_BLOCKS = 40


class Verdict(NamedTuple):
    """What is said of a run: None where it was not judged."""

    is_on_track: bool | None
    text: str


def find_obstacle(root: Path, reference: Reference, stage: str, cell: Cell) -> str | None:
    """Returns why a run with the parameters in force cannot be judged, or None if it can.

    Raises:
        ValueError: the parameters are not in order.
    """
    differences = find_differences(reference.params, list_params(root, stage, cell))
    if differences:
        more = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
        return f"another recipe than the recorded one: {differences[0]}{more}"
    if not reference.has_bands:
        return f"too few to say how much runs vary: {reference.describe()}"
    return None


def make_judge(reference: Reference) -> Judge:
    """Returns what follows a run against the reference."""
    return Judge(reference.steps, reference.window, reference.figures)


def describe_departure(departure: Departure, reference: Reference) -> str:
    """Returns what a user should know of a figure that has left its band."""
    band = f"{show_number(departure.lower)} to {show_number(departure.upper)}"
    return (
        f"off track: {departure.name} is {show_number(departure.value)}, outside since step "
        f"{departure.step} of what {reference.describe()} had, {band}"
    )


def render(root: Path, wanted: tuple[str, Cell] | None) -> Verdict:
    """Returns the verdict on a cell's run, or on all runs of which there is a log.

    Raises:
        ValueError: there is no log, or the stage trains nothing.
    """
    if wanted is not None and wanted[0] not in TRAINED:
        raise ValueError(f"{wanted[0]} trains nothing: choose from {', '.join(TRAINED)}")
    cells = list(list_cells(root)) if wanted is None else [wanted]
    found = [(cell, read_log(root, *cell)) for cell in cells]
    texts, verdicts = [], []
    for (stage, cell), log in found:
        if log:
            verdict = _render_one(root, stage, cell, log)
            texts.append(verdict.text)
            verdicts.append(verdict.is_on_track)
    if not texts:
        names = ", ".join(name_of(*cell) for cell in cells)
        raise ValueError(
            f"there is no log of {names}: `dvc repro` runs them, and `dvc checkout` restores the "
            f"logs of recorded runs"
        )
    judged = [verdict for verdict in verdicts if verdict is not None]
    return Verdict(all(judged) if judged else None, "\n".join(texts))


def read_log(root: Path, stage: str, cell: Cell) -> tuple[str, list[Entry]] | None:
    """Returns the steps of the cell's run and what they come from; None if there are none.

    A run that succeeds removes its folder in work/: while that is there, the live log counts.
    """
    name = name_of(stage, cell)
    finished = root / out_of(stage, cell) / "log.jsonl"
    entries = list(LiveLog(root / LIVE / f"{name}.jsonl").read())
    if entries and (not finished.is_file() or (root / "work" / name).is_dir()):
        return "running, or ended early", entries
    if not finished.is_file():
        return None
    return "finished", [
        Entry(int(row["step"]), 0.0, {name: x for name, x in row.items() if name != "step"})
        for row in read_curve(finished)
    ]


def _render_one(root: Path, stage: str, cell: Cell, log: tuple[str, list[Entry]]) -> Verdict:
    state, entries = log
    name = name_of(stage, cell)
    reference = load_reference(root, stage, cell)
    head = f"{name}: {state}, step {entries[-1].step}"
    if reference is None:
        names = [figure for figure in entries[-1].figures if "/" not in figure]
        lines = [_draw_line(figure, _values_of(entries, figure), None, "") for figure in names]
        return Verdict(None, "\n".join([f"{head}\nnot judged: no recorded curves", *lines]) + "\n")
    obstacle = find_obstacle(root, reference, stage, cell)
    judge = make_judge(reference)
    for entry in entries:
        list(judge.add(entry))
    lines = [
        _draw_figure(figure, band, entries, reference, judge if obstacle is None else None)
        for figure, band in reference.figures.items()
    ]
    if obstacle is not None:
        return Verdict(None, "\n".join([f"{head}\nnot judged: {obstacle}", *lines]) + "\n")
    found = [describe_departure(one, reference) for one in judge.ever_left.values()]
    said = found or [f"on track: {reference.describe()}"]
    return Verdict(not found, "\n".join([head, *said, *lines]) + "\n")


def _draw_figure(
    name: str, band: Band, entries: Iterable[Entry], reference: Reference, judge: Judge | None
) -> str:
    """Returns a figure's line, with its band where the run is if it is judged."""
    known = [entry for entry in entries if entry.step in reference.steps]
    values = smooth(_values_of(known, name), reference.window)
    if not known:
        return _draw_line(name, values, None, "")
    row = reference.steps.index(known[-1].step)
    if judge is None or band.lower is None or band.upper is None:
        return _draw_line(name, values, None, f"recorded {show_number(band.mean[row])}")
    place = "outside" if name in judge.left else "was outside" if name in judge.ever_left else ""
    return _draw_line(name, values, (band.lower[row], band.upper[row]), place)


def _values_of(entries: Iterable[Entry], name: str) -> list[float]:
    return [entry.figures[name] for entry in entries if name in entry.figures]


def _draw_line(
    name: str, values: Sequence[float], band: tuple[float, float] | None, note: str
) -> str:
    last = show_number(values[-1]) if values else "–"
    limits = f"band {show_number(band[0])} to {show_number(band[1])}" if band else ""
    line = f"  {name:24} {draw_sparkline(values):{_MAX_BLOCKS}} {last:>10}  {limits}  {note}"
    return line.rstrip()


def draw_sparkline(values: Sequence[float]) -> str:
    """Returns the curve in blocks, of at most 40 of its values; a blank is no number."""
    step = math.ceil(len(values) / _MAX_BLOCKS) if values else 1
    shown = values[::-step][::-1] if step > 1 else list(values)
    finite = [value for value in shown if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(
        _BLOCKS[round((value - low) * scale)] if math.isfinite(value) else " " for value in shown
    )
