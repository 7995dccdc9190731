"""What a user sees of a run: lines of text, or in a terminal a bar with the figures below."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from stages._live.output import Piece
    from stages._live.status import Status

_BAR_S = 30  # between two lines about a progress bar, unless it says how fast it is
_SPEED = {"tokens_per_s"}
STDOUT, STDERR = 0, 1


class Screen(Protocol):
    """What shows a run."""

    def show_text(self, piece: Piece, stream: int) -> None:
        """Shows what the stage has printed on a stream that is no bar and no row."""

    def show_bar(self, status: Status) -> None:
        """Shows how far a progress bar is."""

    def show_step(self, status: Status) -> None:
        """Shows the figures of a step."""

    def say(self, message: str) -> None:
        """Prints a line that stays."""

    def tick(self, status: Status) -> None:
        """Is called some times a second."""

    def end(self) -> None:
        """Leaves the terminal as it was."""


class PlainScreen:
    """Lines: one per step, and now and then one about a progress bar."""

    def __init__(self, name: str) -> None:
        """Begins with nothing on it."""
        self._name = name
        self._place = ""
        self._shown = time.monotonic()

    def show_text(self, piece: Piece, stream: int) -> None:
        """Shows the text as it was printed, on its own stream."""
        write(piece.raw, stream)

    def show_bar(self, status: Status) -> None:
        """Prints a line if it has moved and the last line is old, or if it says how fast it is."""
        is_due = time.monotonic() - self._shown >= _BAR_S or status.figures.keys() == _SPEED
        if status.done == 0 or status.expects_figures or status.describe_place() == self._place:
            return
        if is_due:
            self._print(status)

    def show_step(self, status: Status) -> None:
        """Prints the step's line."""
        self._print(status)

    def say(self, message: str) -> None:
        """Prints a line on stderr."""
        write(f"rederive: {self._name}: {message}\n".encode(), STDERR)

    def tick(self, status: Status) -> None:
        """Does nothing."""

    def end(self) -> None:
        """Does nothing."""

    def _print(self, status: Status) -> None:
        self._place, self._shown = status.describe_place(), time.monotonic()
        figures = "".join(f", {name} {text}" for name, text in status.list_figures())
        line = f"{self._place}, {status.describe_time()}{figures}"
        write(f"{self._name}: {line}\n".encode(), STDERR)


class RawScreen:
    """All as the stage has printed it: what is left when another screen has failed."""

    def __init__(self, name: str) -> None:
        """Begins with nothing on it."""
        self._name = name

    def show_text(self, piece: Piece, stream: int) -> None:
        """Shows what was printed."""
        write(piece.raw, stream)

    def show_bar(self, status: Status) -> None:
        """Does nothing: the bar itself is shown."""

    def show_step(self, status: Status) -> None:
        """Does nothing: the row itself is shown."""

    def say(self, message: str) -> None:
        """Prints a line on stderr."""
        write(f"rederive: {self._name}: {message}\n".encode(), STDERR)

    def tick(self, status: Status) -> None:
        """Does nothing."""

    def end(self) -> None:
        """Does nothing."""


def write(content: bytes, stream: int) -> None:
    """Writes to stdout or stderr at once."""
    file = (sys.stdout, sys.stderr)[stream]
    file.buffer.write(content)
    file.flush()
