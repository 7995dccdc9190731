"""What a user sees of a job: its log on stdout, and one line about its state on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SHOWN_BYTES = 4000  # of a log that was there before


class Screen:
    """The terminal of the launcher."""

    def __init__(self, name: str, logs: Mapping[str, Path], *, skip: bool) -> None:
        """Shows the logs from their beginning; with `skip`, from near their end as it is now.

        Args:
            name: of the stage's cell.
            logs: by the prefix of their lines; a log without one is shown as it comes.
            skip: whether they are old.
        """
        self._name = name
        self._logs = [_Log(path, prefix, skip=skip) for prefix, path in logs.items()]
        self._is_terminal = sys.stderr.isatty()
        self._shown = ""
        self._start = time.monotonic()

    def show_log(self) -> None:
        """Copies what has been added to the logs."""
        for log in self._logs:
            content = log.read()
            if content:
                self.clear()
                sys.stdout.buffer.write(content)
                sys.stdout.flush()

    def show_state(self, text: str) -> None:
        """Shows the job's state; where there is no terminal, only when it has changed."""
        if self._is_terminal:
            minutes, seconds = divmod(int(time.monotonic() - self._start), 60)
            print(f"\r\x1b[K{text}, {minutes}:{seconds:02}", end="", file=sys.stderr, flush=True)  # noqa: T201
        elif text != self._shown:
            print(text, file=sys.stderr, flush=True)  # noqa: T201
        self._shown = text

    def say(self, message: str) -> None:
        """Prints a line about the job that stays."""
        self.clear()
        print(f"rederive: {self._name}: {message}", file=sys.stderr, flush=True)  # noqa: T201

    def clear(self) -> None:
        """Removes the line about the state from a terminal."""
        if self._is_terminal and self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)  # noqa: T201
            self._shown = ""


class _Log:
    """A file that grows, and how far it has been read."""

    def __init__(self, path: Path, prefix: str, *, skip: bool) -> None:
        self._path, self._prefix = path, prefix.encode()
        self._offset = max(0, _size(path) - _SHOWN_BYTES) if skip else 0
        self._rest = b""

    def read(self) -> bytes:
        """Returns what is new; with a prefix, only whole lines, of each what a terminal keeps."""
        if _size(self._path) <= self._offset:
            return b""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        self._offset += len(content)
        if not self._prefix:
            return content
        *lines, self._rest = (self._rest + content).split(b"\n")
        # A progress bar writes its line again and again.
        kept = [line.removesuffix(b"\r").rpartition(b"\r")[2] for line in lines]
        return b"".join(self._prefix + line + b"\n" for line in kept)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
