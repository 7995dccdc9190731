"""The process that shows a run: `python -m stages._live.show REQUEST`, as follow.py starts it.

It writes nothing that the stage reads. What fails in it is said once: a screen is replaced by the
raw output, the rest is left out.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages._live.ended import has_ended
from stages._live.follow import STREAMS
from stages._live.output import Bar, Blank, Reader, Row
from stages._live.rows import Counter, Entry, rename, write_entry
from stages._live.screens import STDERR, STDOUT, PlainScreen, RawScreen
from stages._live.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from stages._live.output import Piece
    from stages._live.screens import Screen
    from stages._live.watcher import Watcher

_CHUNK_BYTES = 2**20
_SPEED_S = 2.0  # rows come up to a tick late
_DISPLAY, _CURVE, _BANDS = "the display", "the curve", "the comparison with recorded runs"


class Show:
    """A run that is shown."""

    def __init__(self, request: dict[str, Any]) -> None:
        """Begins at the start of what the stage prints.

        Args:
            request: name, stage and cell of the run; progress, rich or plain; parent, the process
                that runs it; folder, with the files of its streams.
        """
        self._name: str = request["name"]
        self._folder = Path(request["folder"])
        self._status = Status(name=self._name, rewards=())
        self._readers = [Reader() for _ in STREAMS]
        self._offsets = [0 for _ in STREAMS]
        self._failed: set[str] = set()
        self._has_moved = False
        self._screen: Screen = PlainScreen(self._name)
        self._counter: Counter | None = None
        self._speed: tuple[float, float] | None = None
        self._watcher: Watcher | None = None
        if request["progress"] == "rich" and sys.stderr.isatty():
            self._try(_DISPLAY, self._use_terminal)
        self._try(_CURVE, lambda: self._prepare(request["stage"], request["cell"]))

    def _use_terminal(self) -> None:
        from stages._live.terminal import RichScreen  # noqa: PLC0415 - not needed elsewhere

        self._screen = RichScreen(self._name)

    def _prepare(self, stage: str, cell: dict[str, str]) -> None:
        """Reads what the stage's parameters say about its rows; those of most stages, nothing."""
        from stages._contract.params import load_cell  # noqa: PLC0415 - after the first look

        try:
            values = load_cell(Path("params.yaml"), stage, cell)
        except ValueError:
            return  # the stage says it
        self._status.rewards = tuple(sorted(getattr(values, "rewards", ())))
        if hasattr(values, "logging_steps"):
            work = Path("work", self._name)
            self._counter = Counter(work, values.logging_steps, values.num_processes)
            self._try(_BANDS, lambda: self._watch(stage, cell))

    def _watch(self, stage: str, cell: dict[str, str]) -> None:
        from stages._live.watcher import Watcher  # noqa: PLC0415 - only for what logs steps

        self._watcher = Watcher(Path(), stage, cell, self._screen.say)

    def look(self) -> bool:
        """Shows what is new, and returns whether there was something."""
        contents = {stream: self._read(stream) for stream in (STDOUT, STDERR)}
        # A row's bar, which says how many steps there are, was printed before it, on stderr: so
        # that is read after stdout, and shown first.
        for stream in (STDERR, STDOUT):
            for piece in self._readers[stream].feed(contents[stream]):
                self._show(piece, stream)
        if self._has_moved:  # only now: the figures of its step may have come, too
            self._has_moved = False
            self._try(_DISPLAY, lambda: self._screen.show_bar(self._status))
        self._try(_DISPLAY, lambda: self._screen.tick(self._status))
        return any(contents.values())

    def _read(self, stream: int) -> bytes:
        with (self._folder / f"{self._name}.{STREAMS[stream]}").open("rb") as file:
            file.seek(self._offsets[stream])
            content = file.read(_CHUNK_BYTES)
        self._offsets[stream] += len(content)
        return content

    def end(self) -> None:
        """Shows what is left."""
        while self.look():
            pass
        for stream, reader in enumerate(self._readers):
            for piece in reader.end():
                self._show(piece, stream)
        self._try(_DISPLAY, self._screen.end)
        if self._watcher:
            self._try(_BANDS, self._watcher.end)

    def _show(self, piece: Piece, stream: int) -> None:
        if isinstance(piece, Row) and "loss" in piece.figures and self._counter:
            self._try(_CURVE, lambda: self._note_row(piece))
        elif isinstance(piece, Bar):
            self._status.note_bar(piece)
            self._has_moved = True
        if isinstance(self._screen, RawScreen):
            self._screen.show_text(piece, stream)
        elif not isinstance(piece, Bar | Blank | Row):
            shows = self._try(_DISPLAY, lambda: self._screen.show_text(piece, stream))
            if not shows:
                self._screen.show_text(piece, stream)  # another screen by now

    def _note_row(self, row: Row) -> None:
        assert self._counter, "only what logs steps has rows"
        step = self._counter.next()
        rewards = self._status.rewards
        earlier, self._counter.earlier = self._counter.earlier, []
        for before in earlier:  # of the run that this one resumes
            self._note(Entry(int(before["step"]), time.time(), rename(before, rewards)))
        entry = Entry(step, time.time(), self._add_speed(rename(row.figures, rewards)))
        self._note(entry)
        self._status.note_entry(entry)
        self._try(_DISPLAY, lambda: self._screen.show_step(self._status))

    def _note(self, entry: Entry) -> None:
        write_entry(self._folder / f"{self._name}.jsonl", entry)
        watcher = self._watcher
        if watcher:
            self._try(_BANDS, lambda: watcher.add(entry))
            self._status.verdict = watcher.verdict

    def _add_speed(self, figures: dict[str, float]) -> dict[str, float]:
        """Returns the figures, with the tokens per second since the first row.

        Not since the last one: the number of tokens is printed with four digits.
        """
        now, tokens = time.monotonic(), figures.get("num_tokens")
        if tokens is None:
            return figures
        if self._speed is None:
            self._speed = now, tokens
        start, before = self._speed
        if now - start < _SPEED_S:
            return figures
        return figures | {"tokens_per_s": (tokens - before) / (now - start)}

    def _try(self, what: str, action: Callable[[], object]) -> bool:
        """Returns whether it was done; a failure is said once, and what has failed is left out."""
        if what in self._failed:
            return False
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on and is shown
            self._failed.add(what)
            if what == _DISPLAY:
                self._screen = RawScreen(self._name)
            kind = type(error).__name__
            self._screen.say(f"{what} has failed, and is left out: {kind}: {error}")
            return False
        return True


def main(argument: str) -> None:
    """Shows the run of the request, a JSON object, until its end."""
    request = json.loads(argument)
    show = Show(request)
    while not has_ended(request["parent"]):
        show.look()
    show.end()


if __name__ == "__main__":
    main(sys.argv[1])
