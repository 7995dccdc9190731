"""Warns while a stage runs, when its figures leave the bands of the recorded runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages._live.reference import load_reference
from stages._live.track import describe_departure, find_obstacle, make_judge

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stages._contract.places import Cell
    from stages._live.rows import Entry


class Watcher:
    """What is said of a run; nothing where its recipe has no recorded curves."""

    def __init__(self, root: Path, stage: str, cell: Cell, say: Callable[[str], None]) -> None:
        """Finds the recorded curves of the cell.

        Args:
            root: of the repository.
            stage: its name.
            cell: its cell.
            say: shows a line to the user.

        Raises:
            ValueError: the parameters are not in order.
        """
        self._say = say
        self._reference = load_reference(root, stage, cell)
        self.verdict = ""
        self._obstacle: str | None = None
        self._is_first = True
        if self._reference is not None:
            self._judge = make_judge(self._reference)
            self._obstacle = find_obstacle(root, self._reference, stage, cell)
            self.verdict = f"not judged: {self._obstacle}" if self._obstacle else "not judged yet"

    def add(self, entry: Entry) -> None:
        """Says it if a figure has left its band; at the first step, why nothing will be said."""
        if self._reference is None:
            return
        # Without bands there is nothing to expect, and so nothing to explain at each run.
        if self._obstacle and self._is_first and self._reference.has_bands:
            self._say(self.verdict)
        self._is_first = False
        if self._obstacle:
            return
        for departure in self._judge.add(entry):
            self._say(describe_departure(departure, self._reference))
        state = f"off track: {', '.join(self._judge.left)}" if self._judge.left else "on track"
        self.verdict = f"{state} ({self._reference.describe()})"

    def end(self) -> None:
        """Says of a run that was judged how it went."""
        if self._reference is None or self._obstacle or self._is_first:
            return
        names = ", ".join(self._judge.ever_left)
        said = f"left the bands of {names}" if names else "stayed in all bands"
        self._say(f"{said} of {self._reference.describe()}: see `python -m stages track`")
