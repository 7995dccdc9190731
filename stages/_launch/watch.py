"""Watches a job until it has ended: its log and its state in the terminal, signals as scancel."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from stages._launch import slurm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

    from stages._launch.slurm import Job

_TICK_S = 0.2
_SILENCE_S = 600  # of the scheduler, which is restarted now and then
_CANCEL_S = 120  # Slurm's KillWait is 30 s, unless an administrator has changed it
_SHOWN_BYTES = 4000  # of a log that was there before


@dataclass(slots=True)
class Signals:
    """The signals that have come, instead of an exception in the middle of a submission."""

    numbers: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Returns whether one has come."""
        return bool(self.numbers)

    @property
    def status(self) -> int:
        """Returns the exit status of a process that the first one ends, as shells say it."""
        return 128 + self.numbers[0]


@contextmanager
def noted_signals() -> Iterator[Signals]:
    """Yields what notes Ctrl-C and SIGTERM while the block runs."""
    signals = Signals()

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        signals.numbers.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Screen:
    """The terminal: the job's log on stdout, and one line about its state on stderr."""

    def __init__(self, name: str, log: Path, *, skip: bool) -> None:
        """Shows the log from its beginning; with `skip`, from near its end as it is now."""
        self._name, self._log = name, log
        self._offset = max(0, _size(log) - _SHOWN_BYTES) if skip else 0
        self._is_terminal = sys.stderr.isatty()
        self._shown = ""
        self._start = time.monotonic()

    def show_log(self) -> None:
        """Copies what has been added to the log."""
        if _size(self._log) <= self._offset:
            return
        with self._log.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        self._offset += len(content)
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


class Watch:
    """A job that is watched until it has ended, and cancelled if a signal says so."""

    def __init__(self, job_id: str, poll_s: float, screen: Screen, signals: Signals) -> None:
        """Watches this job, asking the scheduler every `poll_s` seconds."""
        self.job_id = job_id
        self._poll_s, self._screen, self._signals = poll_s, screen, signals
        self._answered = time.monotonic()
        self._excluded: set[str] = set()
        self.last: Job | None = None
        self.at_signal = ""

    def follow(self) -> Job | None:
        """Returns the job when it has ended, or None if Slurm does not know it any more.

        A cancelled job that does not end in time, or at a second signal, is returned as it is.

        Raises:
            ValueError: Slurm has not answered for long, or the job waits for ever.
        """
        asked = cancelled = -float("inf")
        while True:
            now = time.monotonic()
            if self._signals and cancelled < 0:
                cancelled, asked = now, -float("inf")
                self.at_signal = self.last.describe() if self.last else "not seen yet"
                self._cancel()
            if now - asked >= (self._poll_s if cancelled < 0 else _TICK_S):
                asked = now
                if not self._look():
                    return None
            self._screen.show_log()
            if self.last is not None and self.last.has_ended:
                return self.last
            is_late = now - cancelled > _CANCEL_S or len(self._signals.numbers) > 1
            if cancelled >= 0 and is_late:
                return self.last
            time.sleep(_TICK_S)

    def _look(self) -> bool:
        """Asks for the job once, and returns whether Slurm knows it."""
        try:
            job = slurm.look(self.job_id)
        except slurm.SchedulerError as error:
            silence_s = time.monotonic() - self._answered
            if silence_s > _SILENCE_S:
                raise ValueError(
                    f"no answer about job {self.job_id} for {silence_s:.0f} s: {error}: it may "
                    f"be running; run again to watch it"
                ) from error
            self._screen.show_state(f"rederive: job {self.job_id}: {error}; asking again")
            return True
        self._answered = time.monotonic()
        if job is None:
            return False
        if self.last is not None and job.restarts > self.last.restarts:
            self._keep_away_from_broken(self.last.nodes)
        if not job.nodes and self.last is not None:
            job = replace(job, nodes=self.last.nodes)  # where it was before it was queued again
        self.last = job
        self._screen.show_state(f"rederive: job {job.id} is {job.describe()}")
        if job.is_hopeless and not self._signals:
            self._cancel()
            raise ValueError(
                f"job {job.id} would wait for ever and is cancelled: it was {job.describe()}: see "
                f"the site's file and slurm/resources.yaml"
            )
        return True

    def _cancel(self) -> None:
        try:
            slurm.cancel(self.job_id)
        except slurm.SchedulerError as error:
            self._screen.say(f"{error}; if the job is there, `scancel {self.job_id}`")

    def _keep_away_from_broken(self, nodes: str) -> None:
        """Excludes those of the nodes where the job was before that Slurm does not use now."""
        try:
            broken = {*slurm.list_broken(nodes), *self._excluded} if nodes else self._excluded
            if broken - self._excluded:
                slurm.exclude(self.job_id, sorted(broken))
        except slurm.SchedulerError as error:
            self._screen.say(f"started again, and no node could be excluded: {error}")
            return
        if broken - self._excluded:
            self._screen.say(f"a node failed: the job starts again without {', '.join(broken)}")
        self._excluded = broken


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
