"""Runs a stage in this process while others show how it goes, which can neither end nor slow it.

What the stage prints goes to two files in work/live, and a process of its own reads them and shows
what it finds. So the stage never waits for a terminal, a network or a reader, and keeps its process
id, its signals and its exit status. What the reader could not show is shown when the stage ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from stages._contract.manifest import git
from stages._contract.params import load_cell
from stages._contract.places import name_of
from stages._live.ended import END
from stages._live.packages import find_python
from stages._live.settings import Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

LIVE = Path("work/live")
STREAMS = ("stdout", "stderr")
_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_SHOW_S, _SEND_S = 30, 60  # for what is left at the end; all results are there by then


def choose(stage: str) -> Settings | None:
    """Returns what the environment says about the display, or None after a line about a mistake."""
    try:
        settings = read_settings(os.environ, is_terminal=sys.stderr.isatty())
        find_python(settings.trackers)
    except ValueError as error:
        _say(stage, str(error))
        return None
    return settings


@contextmanager
def followed(stage: str, cell: dict[str, str], settings: Settings) -> Iterator[None]:
    """Shows what the block prints, a run of the stage's cell, as the settings say.

    The block may also replace the process: the readers end when that does.
    """
    if settings.progress == "raw":
        yield
        return
    name = name_of(stage, cell)
    try:
        readers = _Readers(name, stage, cell, settings)
    except OSError as error:
        _say(name, f"{error}: it runs without a display")
        yield
        return
    try:
        yield
    finally:
        readers.end()


class _Readers:
    """The processes that read what this one prints, which goes to files from now on."""

    def __init__(self, name: str, stage: str, cell: dict[str, str], settings: Settings) -> None:
        LIVE.mkdir(parents=True, exist_ok=True)
        self._name = name
        self._paths = [LIVE / f"{name}.{stream}" for stream in STREAMS]
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        files = [os.open(path, flags, 0o644) for path in self._paths]
        log = LIVE / f"{name}.jsonl"
        log.write_bytes(b"")
        request = {"name": name, "stage": stage, "cell": cell, "parent": os.getpid()}
        shown = request | {"progress": settings.progress, "folder": str(LIVE)}
        self._screen = _start(sys.executable, "show", shown)
        self._trackers = None
        if settings.trackers:
            tracked = {"trackers": settings.trackers, "log": str(log), **describe(stage, cell)}
            self._trackers = _start(find_python(settings.trackers), "trackers", request | tracked)
        # Children that Python starts hand on each line at once; in an image, too.
        for key in ("PYTHONUNBUFFERED", "APPTAINERENV_PYTHONUNBUFFERED"):
            os.environ.setdefault(key, "1")
        self._saved = []
        into = [files[0], files[0]] if _is_read_as_one() else files
        for file, stream in zip(into, (sys.stdout, sys.stderr), strict=True):
            stream.flush()
            self._saved.append(os.dup(stream.fileno()))
            os.dup2(file, stream.fileno())
        for file in files:
            os.close(file)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a TextIO

    def end(self) -> None:
        """Gives this process its own streams again, and waits until all is shown and sent."""
        for saved, stream in zip(self._saved, (sys.stdout, sys.stderr), strict=True):
            with suppress(OSError):  # a full disk
                stream.flush()
            os.dup2(saved, stream.fileno())
            os.close(saved)
        problem = _finish(self._screen, _SHOW_S)
        if problem:
            self._show_all(problem)
        # Not before: until its end, the screen writes what trackers read.
        problem = _finish(self._trackers, _SEND_S) if self._trackers else None
        if problem:
            _say(self._name, f"the process of the trackers {problem}")

    def _show_all(self, problem: str) -> None:
        """Shows the whole output once more: how far the reader came is not known."""
        _say(self._name, f"the display {problem}; all that the stage printed:")
        for path, stream in zip(self._paths, (sys.stdout, sys.stderr), strict=True):
            with suppress(OSError, ValueError):
                stream.buffer.write(path.read_bytes())
                stream.flush()


def _is_read_as_one() -> bool:
    """Returns whether a launcher speaks here, to somebody who reads both streams in one place.

    It says on stderr what it means by the lines above, a job's, which it hands on to stdout: their
    order must stay. A stage's own bars and rows are told apart by their streams.
    """
    if (os.environ.get("R1_SITE") or "local") == "local":
        return False
    stdout, stderr = (os.fstat(stream.fileno()) for stream in (sys.stdout, sys.stderr))
    return os.path.samestat(stdout, stderr)


def describe(stage: str, cell: dict[str, str]) -> dict[str, Any]:
    """Returns a run's name on trackers, and its configuration: stage, cell, commit, seed, params.

    Without the parameters where they are not in order: the stage says so.
    """
    config: dict[str, Any] = {"stage": stage, "cell": cell, "commit": git("rev-parse", "HEAD")}
    with suppress(ValueError):
        config["params"] = asdict(load_cell(Path("params.yaml"), stage, cell))
        config["seed"] = config["params"].get("seed")
    run = f"{name_of(stage, cell)}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return {"run": run, "config": config}


def _start(python: str, module: str, request: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Starts a reader, which a terminal's Ctrl-C and a scheduler's SIGTERM are not meant for."""
    command = [python, "-m", f"stages._live.{module}", json.dumps(request, default=str)]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # it inherits the mask
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _finish(process: subprocess.Popen[bytes], patience_s: int) -> str | None:
    """Tells a reader to come to its end, and returns what went wrong."""
    pipe: IO[bytes] | None = process.stdin
    assert pipe
    try:
        with suppress(BrokenPipeError), pipe:
            pipe.write(END)
        status = process.wait(patience_s)
    except subprocess.TimeoutExpired:
        status = None
    finally:
        process.kill()  # does nothing to one that has ended
        process.wait()
    if status is None:
        return f"did not end in {patience_s} s and was stopped"
    return f"ended with {status}" if status else None


def _say(name: str, message: str) -> None:
    print(f"rederive: {name}: {message}", file=sys.stderr, flush=True)  # noqa: T201
