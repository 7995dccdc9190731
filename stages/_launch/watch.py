"""Watches a job until it has ended: its log and its state in the terminal, signals as scancel."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stages._launch import slurm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from stages._launch.screen import Screen
    from stages._launch.slurm import Job

STOP = "R1_CONTROLLER_STOP"  # names a file in which the controller says `leave` or `cancel`
_TICK_S = 0.2
_SILENCE_S = 600  # of the scheduler, which is restarted now and then
NUM_SHOWN = 5  # of the tasks that failed
_CANCEL_S = 120  # Slurm's KillWait is 30 s, unless an administrator has changed it


class LeftError(Exception):
    """The controller is about to end and begin again: its stage's job goes on without a watcher."""


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

    def ask_controller(self) -> None:
        """Notes SIGTERM if this runs under a controller that is cancelled.

        Raises:
            LeftError: the controller leaves.
        """
        path = os.environ.get(STOP)
        if not path or not Path(path).exists():
            return
        said = Path(path).read_text(encoding="utf-8").strip()
        if said == "cancel" and not self.numbers:
            self.numbers.append(signal.SIGTERM)
        if said == "leave" and not self.numbers:
            raise LeftError


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


class Watch:
    """A job that is watched until it has ended, and cancelled if a signal says so.

    An array has a task for each number up to `num_tasks`.
    """

    def __init__(
        self, job_id: str, num_tasks: int, poll_s: float, screen: Screen, signals: Signals
    ) -> None:
        """Watches this job, asking the scheduler every `poll_s` seconds."""
        self.job_id = job_id
        self.ids = list_ids(job_id, num_tasks)
        self._poll_s, self._screen, self._signals = poll_s, screen, signals
        self._answered = time.monotonic()
        self._excluded: dict[str, set[str]] = {}
        self._known = set(self.ids)
        self._failed: set[str] = set()
        self.last: dict[str, Job] = {}
        self.at_signal = ""

    def follow(self) -> bool:
        """Returns whether the job has ended, all tasks of it; `last` has what was seen of them.

        A cancelled job that does not end in time, or at a second signal, has not. What Slurm has
        forgotten has ended.

        Raises:
            ValueError: Slurm has not answered for long, or the job waits for ever.
            LeftError: the controller leaves.
        """
        asked = cancelled = -float("inf")
        while True:
            self._signals.ask_controller()
            now = time.monotonic()
            if self._signals and cancelled < 0:
                cancelled, asked = now, -float("inf")
                self.at_signal = self.describe() if self.last else "not seen yet"
                self._cancel()
            if now - asked >= (self._poll_s if cancelled < 0 else _TICK_S):
                asked = now
                self._look()
            self._screen.show_log()
            if all(self._has_ended(job_id) for job_id in self.ids):
                return True
            is_late = now - cancelled > _CANCEL_S or len(self._signals.numbers) > 1
            if cancelled >= 0 and is_late:
                return False
            time.sleep(_TICK_S)

    def describe(self) -> str:
        """Returns the state of the job, or how many of its tasks are in which."""
        if self.ids == [self.job_id]:
            return self.last[self.job_id].describe()
        jobs = list(self.last.values())
        waits = [job for job in jobs if job.state == "PENDING"]
        reason = next((f" ({job.reason})" for job in waits if job.reason), "")
        failed = [job for job in jobs if job.has_ended and job.state != "COMPLETED"]
        num_running = sum(not job.has_ended for job in jobs) - len(waits)
        num_done = len(self.ids) - len(waits) - len(failed) - num_running
        text = f"{len(waits)} pending{reason}, {num_running} running, {num_done} done"
        return text + (f", {len(failed)} failed" if failed else "")

    def _has_ended(self, job_id: str) -> bool:
        job = self.last.get(job_id)
        return job_id not in self._known or (job is not None and job.has_ended)

    def _look(self) -> None:
        """Asks for the job once."""
        try:
            jobs = slurm.look(self.job_id)
        except slurm.SchedulerError as error:
            silence_s = time.monotonic() - self._answered
            if silence_s > _SILENCE_S:
                raise ValueError(
                    f"no answer about job {self.job_id} for {silence_s:.0f} s: {error}: it may "
                    f"be running; run again to watch it"
                ) from error
            self._screen.show_state(f"rederive: job {self.job_id}: {error}; asking again")
            return
        self._answered = time.monotonic()
        self._known = {job.id for job in jobs}
        for job in jobs:
            self._note(job)
        if not jobs:
            return
        verb = " is" if self.ids == [self.job_id] else ":"
        self._screen.show_state(f"rederive: job {self.job_id}{verb} {self.describe()}")
        hopeless = next((job for job in jobs if job.is_hopeless), None)
        if hopeless and not self._signals:
            self._cancel()
            raise ValueError(
                f"job {self.job_id} would wait for ever and is cancelled: it was "
                f"{hopeless.describe()}: see the site's file and slurm/resources.yaml"
            )

    def _note(self, job: Job) -> None:
        """Notes what is seen of a job or task, and acts if it has been queued again."""
        before = self.last.get(job.id)
        if before is not None and job.restarts > before.restarts:
            self._keep_away_from_broken(job.id, before.nodes)
        if not job.nodes and before is not None:
            job = replace(job, nodes=before.nodes)  # where it was before it was queued again
        self.last[job.id] = job
        has_failed = job.has_ended and job.state != "COMPLETED"
        if not has_failed or self._signals or len(self.ids) == 1:
            return
        self._failed.add(job.id)
        if not (before and before.has_ended) and len(self._failed) <= NUM_SHOWN:
            self._screen.say(f"job {job.id} is {explain(job)}; the other tasks go on")

    def _cancel(self) -> None:
        try:
            slurm.cancel(self.job_id)
        except slurm.SchedulerError as error:
            self._screen.say(f"{error}; if the job is there, `scancel {self.job_id}`")

    def _keep_away_from_broken(self, job_id: str, nodes: str) -> None:
        """Excludes those of the nodes where the job was before that Slurm does not use now."""
        excluded = self._excluded.setdefault(job_id, set())
        try:
            broken = {*slurm.list_broken(nodes), *excluded} if nodes else excluded
            if broken - excluded:
                slurm.exclude(job_id, sorted(broken))
        except slurm.SchedulerError as error:
            self._screen.say(f"started again, and no node could be excluded: {error}")
            return
        if broken - excluded:
            what = "the job" if job_id == self.job_id else f"job {job_id}"
            self._screen.say(f"a node failed: {what} starts again without {', '.join(broken)}")
        self._excluded[job_id] = broken


def list_ids(job_id: str, num_tasks: int) -> list[str]:
    """Returns the ids of an array's tasks, or that of a job without any."""
    return [f"{job_id}_{task + 1}" for task in range(num_tasks)] if num_tasks else [job_id]


def explain(job: Job) -> str:
    """Returns state, place and reason of a job that has ended."""
    where = f" on {job.nodes}" if job.nodes else ""
    return f"{job.state}{where}" + (f" ({job.reason})" if job.reason else "")
