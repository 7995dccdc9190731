"""Files of /proc, whose processes may end at any moment."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def read_proc(path: str | Path) -> str:
    """Returns a file's text; it is empty if its process or thread has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path("/proc", path).read_text(encoding="utf-8")
    return ""
