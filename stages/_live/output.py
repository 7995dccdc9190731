"""What a stage's libraries print, read as it comes: progress bars, rows of figures, other text.

A progress bar is tqdm's. A row is what transformers' ProgressCallback prints of a logged step, a
dict whose values it has rounded to four digits. All else is text, and none of it is lost.
"""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_BAR = re.compile(
    r"(?:(?P<name>.*\S):)? *\d+%[^|]*\|(?:[^|]*\|)? (?P<done>\S+)/(?P<total>\S+) "
    r"\[[\d:]+<(?P<left>[\d:?]+), +[^,\]]+(?:, (?P<note>.*))?\] *"
)
_UNBOUNDED = re.compile(r"(?:.*\S:)? *\d+ ?\w+ \[[\d:]+, +[^\]]*\] *")  # a bar without a total
_ROW = re.compile(r"\{'\w.*\} *")
_SPEED = re.compile(r"(\d+(?:\.\d+)?) tok/s")
_COUNT = re.compile(r"(\d+(?:\.\d+)?)([kMGT]?)")
_SCALES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UP = "\x1b[A"  # where bars are below one another
_MAX_LINE_BYTES = 2**20  # what is longer is shown in pieces


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A part of the output, as it was printed."""

    raw: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Text(Piece):
    """What the stage or a library says: to be shown as it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Blank(Piece):
    """What removes a bar from a terminal, and a bar that has no total."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar(Piece):
    """A progress bar: "" is the name of the trainer's."""

    name: str
    done: int
    total: int
    left_s: int | None
    tokens_per_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row(Piece):
    """The figures of a logged step, by the names of the library that printed them."""

    figures: dict[str, float]


class Reader:
    """Splits a stream into pieces; a part that is not complete yet is kept for the next time."""

    def __init__(self) -> None:
        """Begins with nothing."""
        self._rest = b""
        self._after_bar = False

    def feed(self, content: bytes) -> Iterator[Piece]:
        """Yields the pieces that the content completes."""
        self._rest += content
        # A carriage return may be the first half of a line's end.
        while found := re.search(rb"\r?\n|\r(?=[^\n])", self._rest):
            raw, self._rest = self._rest[: found.end()], self._rest[found.end() :]
            yield self._read(raw)
        # tqdm ends no line: what comes next removes it.
        if len(self._rest) > _MAX_LINE_BYTES or _is_bar(self._rest):
            yield from self.end()

    def end(self) -> Iterator[Piece]:
        """Yields what is left, at the end of the stream."""
        if self._rest:
            raw, self._rest = self._rest, b""
            yield self._read(raw)

    def _read(self, raw: bytes) -> Piece:
        piece = read_piece(raw)
        if (
            self._after_bar
            and isinstance(piece, Text)
            and not raw.replace(_UP.encode(), b"").strip()
        ):
            piece = Blank(raw=raw)  # the end of the bar's line
        self._after_bar = isinstance(piece, Bar | Blank)
        return piece


def read_piece(raw: bytes) -> Piece:
    """Returns what a line is, which a newline or a carriage return ends."""
    text = raw.decode("utf-8", errors="replace").rstrip("\r\n").replace(_UP, "")
    if not text.strip() and raw.endswith(b"\r"):
        return Blank(raw=raw)
    bar = _BAR.fullmatch(text)
    counts = [_COUNT.fullmatch(bar[key]) for key in ("done", "total")] if bar else []
    if bar and all(counts):
        done, total = (round(float(count[1]) * _SCALES[count[2]]) for count in counts if count)
        speed = _SPEED.fullmatch(bar["note"] or "")
        return Bar(
            raw=raw,
            name=bar["name"] or "",
            done=done,
            total=total,
            left_s=_read_time(bar["left"]),
            tokens_per_s=float(speed[1]) if speed else None,
        )
    if _UNBOUNDED.fullmatch(text):
        return Blank(raw=raw)
    figures = _read_row(text) if _ROW.fullmatch(text) else {}
    return Row(raw=raw, figures=figures) if figures else Text(raw=raw)


def _is_bar(raw: bytes) -> bool:
    return raw.removesuffix(_UP.encode()).rstrip(b" ").endswith(b"]") and isinstance(
        read_piece(raw), Bar
    )


def _read_time(text: str) -> int | None:
    """Returns the seconds of 1:02:03 or 02:03, or None for what a bar does not know yet."""
    if "?" in text:
        return None
    seconds = 0
    for part in text.split(":"):
        seconds = 60 * seconds + int(part)
    return seconds


def _read_row(text: str) -> dict[str, float]:
    """Returns the figures of a trainer's line, NaN where it has diverged; {} if it is none."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    if not isinstance(value, dict) or not {"loss", "train_loss"} & value.keys():
        return {}
    found = {}
    for name, figure in value.items():
        with suppress(TypeError, ValueError):  # a text is no figure
            found[str(name)] = float(figure)
    return found
