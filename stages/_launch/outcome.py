"""How a job has ended: its exit status, and why that is not 0."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stages._launch.watch import NUM_SHOWN, explain

if TYPE_CHECKING:
    from pathlib import Path

    from stages._launch.screen import Screen
    from stages._launch.slurm import Job
    from stages._launch.watch import Signals, Watch

_VISIBLE_S = 60  # until what a node wrote is seen through a shared filesystem's cache
_REMEDIES = {
    "BOOT_FAIL": "run again, or exclude the node by options in the site's file",
    "CANCELLED": "somebody has cancelled it; run again",
    "DEADLINE": "its deadline came before its end: see options in the site's file",
    "NODE_FAIL": "run again: what it saved is used; with max_requeues above 0 Slurm does so itself",
    "OUT_OF_MEMORY": "raise its mem in slurm/resources.yaml",
    "PREEMPTED": "run again: what it saved is used; with max_requeues above 0 Slurm does so itself",
    "TIMEOUT": "raise its time in slurm/resources.yaml, or signal_before_end_s in the site's file",
}


def judge(watch: Watch, folder: Path, screen: Screen, signals: Signals) -> int:
    """Watches the job to its end, and returns the exit status; says on stderr why it is not 0."""
    try:
        has_ended = watch.follow()
    finally:
        screen.clear()
    if signals:
        what = "is cancelled" if has_ended else "was told to end, and may still run"
        screen.say(f"stopped; job {watch.job_id}, which was {watch.at_signal}, {what}")
        return signals.status
    statuses = [_judge_one(job_id, watch.last.get(job_id), folder, screen) for job_id in watch.ids]
    screen.show_log()
    num_failed = sum(status != 0 for status, _ in statuses)
    for message in [message for _, message in statuses if message][:NUM_SHOWN]:
        screen.say(message)
    if num_failed and len(statuses) > 1:
        screen.say(
            f"{num_failed} of {len(statuses)} tasks failed; what is done is kept: run again, and "
            f"only what is missing is done"
        )
    return next((status for status, _ in statuses if status), 0)


def _judge_one(job_id: str, job: Job | None, folder: Path, screen: Screen) -> tuple[int, str]:
    """Returns the status of a job or a task, and the line that explains it, if there is one."""
    if job is None or not job.has_ended:
        return _judge_forgotten(job_id, job, folder)
    status = job.status
    if job.state in {"COMPLETED", "FAILED"}:
        status = _wait_for_status(folder, job)
        screen.show_log()
    if job.state == "COMPLETED" and status == 0:
        return 0, ""
    remedy = _REMEDIES.get(job.state, f"what it said is above and in {folder}/{job.id}.log")
    if job.state == "FAILED" and not _status_file(folder, job).exists():
        remedy = "it left no status: see whether the node can read and write the site's work_dir"
    return status or 1, f"job {job.id} is {explain(job)}, with status {status}: {remedy}"


def last_status(folder: Path, job_id: str) -> int | None:
    """Returns the status of the job's last start, or None if none has left one."""
    files = {int(path.suffixes[-2][1:]): path for path in folder.glob(f"{job_id}.*.status")}
    return int(files[max(files)].read_text(encoding="utf-8")) if files else None


def _status_file(folder: Path, job: Job) -> Path:
    """Returns where the job's script writes its exit status."""
    return folder / f"{job.id}.{job.restarts}.status"


def _wait_for_status(folder: Path, job: Job) -> int:
    """Returns the status that the job's script has written, or Slurm's if there is none."""
    path = _status_file(folder, job)
    deadline = time.monotonic() + (_VISIBLE_S if job.state == "COMPLETED" else 1)
    while not path.exists():
        if time.monotonic() > deadline:
            if job.state == "COMPLETED":
                raise ValueError(
                    f"job {job.id} is COMPLETED, and {path} is not seen here: the repository must "
                    f"lie on a filesystem that all nodes share"
                )
            return job.status
        time.sleep(0.1)
    return int(path.read_text(encoding="utf-8"))


def _judge_forgotten(job_id: str, seen: Job | None, folder: Path) -> tuple[int, str]:
    """Returns the status that a job has left that Slurm does not know any more, and a line."""
    status = last_status(folder, job_id)
    if status:
        return status, f"job {job_id} ended with status {status}; see {folder}/{job_id}.log"
    if status is not None:
        return 0, ""
    place = f", last seen {seen.describe()}" if seen else ""
    raise ValueError(
        f"Slurm does not know job {job_id} any more{place}, and it left no status: see "
        f"{folder}/{job_id}.log, and run again"
    )
