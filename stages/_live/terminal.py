"""A run in a terminal: rich draws a bar and the figures of the last step, and text goes above."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stages._live.screens import STDERR, STDOUT, write

if TYPE_CHECKING:
    from rich.console import RenderableType

    from stages._live.output import Piece
    from stages._live.status import Status

_REFRESH_S = 0.5
_PATIENCE_S = 1.0  # a stage that ends sooner is not drawn


class RichScreen:
    """The last lines of a terminal, on stderr."""

    def __init__(self, name: str) -> None:
        """Draws nothing yet."""
        self._name = name
        self._console = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._last: Text | None = None
        self._start = time.monotonic()
        self._drawn = 0.0

    def show_text(self, piece: Piece, stream: int) -> None:
        """Shows the text above what is drawn, or where the stream goes instead of the terminal."""
        if self._live is None or (stream == STDOUT and not sys.stdout.isatty()):
            write(piece.raw, stream)
            return
        line = piece.raw.decode("utf-8", errors="replace").rstrip("\r\n")
        self._live.console.print(Text.from_ansi(line), soft_wrap=True)

    def show_bar(self, status: Status) -> None:
        """Does nothing: it is drawn by `tick`."""

    def show_step(self, status: Status) -> None:
        """Keeps the figures, which are drawn by `tick`, for the end."""
        self._last = draw_line(status)

    def say(self, message: str) -> None:
        """Prints a line that stays."""
        line = f"rederive: {self._name}: {message}"
        if self._live is None:
            write(f"{line}\n".encode(), STDERR)
        else:
            self._live.console.print(Text(line, style="yellow"), soft_wrap=True)

    def tick(self, status: Status) -> None:
        """Draws what has changed, if it is time to."""
        now = time.monotonic()
        if now - self._start < _PATIENCE_S or now - self._drawn < _REFRESH_S:
            return
        self._drawn = now
        if self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        self._live.update(draw(status), refresh=True)

    def end(self) -> None:
        """Removes the drawing, and leaves the last step's line if there is one."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._last is not None:
            self._console.print(self._last, soft_wrap=True)


def draw(status: Status) -> RenderableType:
    """Returns what a terminal shows of the run."""
    head = Table.grid(padding=(0, 2))
    cells: list[RenderableType] = [Text(status.name, style="bold")]
    if status.total:
        cells += [
            Text(status.describe_place()),
            ProgressBar(total=status.total, completed=status.done, width=30),
        ]
    head.add_row(*cells, Text(status.describe_time(), style="dim"))
    lines: list[RenderableType] = [head]
    if status.figures:
        lines.append(_draw_figures(status))
    if status.verdict:
        lines.append(Text(f"  {status.verdict}", style="dim"))
    return Group(*lines)


def draw_line(status: Status) -> Text:
    """Returns the line that stays when the run has ended."""
    line = Text.assemble((status.name, "bold"), f"  {status.describe_place()}")
    return line.append_text(_draw_figures(status))


def _draw_figures(status: Status) -> Text:
    line = Text("")
    for name, text in status.list_figures():
        line.append(f"  {name} ", style="dim")
        line.append(text)
    return line
