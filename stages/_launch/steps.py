"""Jobs that are done one after the other: each is found if it was submitted before, and watched."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages._contract.artifacts import write_json, write_whole
from stages._launch import slurm
from stages._launch.outcome import judge, last_status
from stages._launch.screen import Screen
from stages._launch.watch import Watch, list_ids

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stages._launch.site import SlurmSite
    from stages._launch.watch import Signals


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A job of a launch."""

    name: str  # in messages
    folder: Path  # of its record and its logs
    script: str
    key: str  # which only jobs for the same result share
    num_tasks: int  # of a job array; 0: it is none
    keeps: bool  # whether what it did can be taken when nobody watched its end


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A job that an earlier launcher has left."""

    id: str
    is_live: bool


def run_steps(steps: Sequence[Step], site: SlurmSite, signals: Signals) -> tuple[int, str]:
    """Does the steps from the last that was begun; returns status and the id of the last job.

    Status 0: all have succeeded.

    Raises:
        ValueError: a job for other parameters or code is there, or Slurm is of no use.
    """
    left = [find(step) for step in steps]
    first = max((number for number, found in enumerate(left) if found), default=0)
    status, job_id = 0, ""
    for step, found in zip(steps[first:], left[first:], strict=True):
        signals.ask_controller()
        if signals:
            return signals.status, job_id
        status, job_id = _run(step, found, site, signals)
        if status:
            break
    return status, job_id


def forget(steps: Sequence[Step]) -> None:
    """Makes the next launch begin with the first step, as after a result that was taken."""
    for step in steps:
        (step.folder / "job.json").unlink(missing_ok=True)


def find(step: Step) -> Found | None:
    """Returns the job that a killed launcher has left for this, unless it ended without a result.

    Raises:
        ValueError: a job for other parameters or code is there, and would write the same outputs.
    """
    try:
        record = json.loads((step.folder / "job.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    # Without an id, the launcher was killed while it submitted.
    job_id: str | None = record["job"] or slurm.find_by_key(record["key"])
    if job_id is None:
        return None
    live = next((job for job in slurm.look(job_id) if not job.has_ended), None)
    if live is None:
        is_kept = step.keeps and record["key"] == step.key and _has_result(step, job_id)
        return Found(id=job_id, is_live=False) if is_kept else None
    if record["key"] != step.key:
        raise ValueError(
            f"job {job_id} is {live.describe()} for {step.name} with other parameters, data or "
            f"code, and writes the same files: wait for its end, or `scancel {job_id}`, and run "
            f"again"
        )
    return Found(id=job_id, is_live=True)


def _has_result(step: Step, job_id: str) -> bool:
    """Returns whether the job, or each of its tasks, has left a status of 0, and what it kept."""
    ids = list_ids(job_id, step.num_tasks)
    is_there = step.num_tasks > 0 or (step.folder / f"{job_id}.kept").is_dir()
    return is_there and all(last_status(step.folder, one) == 0 for one in ids)


def _run(step: Step, found: Found | None, site: SlurmSite, signals: Signals) -> tuple[int, str]:
    """Returns the step's exit status and its job's id."""
    job_id = found.id if found else _submit(step, site)
    ids = list_ids(job_id, step.num_tasks)
    prefixes = [f"[{number + 1}] " if step.num_tasks else "" for number in range(len(ids))]
    logs = {prefix: step.folder / f"{one}.log" for prefix, one in zip(prefixes, ids, strict=True)}
    screen = Screen(step.name, logs, skip=found is not None)
    if found and not found.is_live:
        screen.say(f"job {job_id} has done this while nobody watched it: taking its result")
        return 0, job_id
    what = f"job {job_id}" + (f" with {step.num_tasks} tasks" if step.num_tasks else "")
    screen.say(f"{'watching' if found else 'submitted'} {what}, log {step.folder}/")
    watch = Watch(job_id, step.num_tasks, site.poll_s, screen, signals)
    return judge(watch, step.folder, screen, signals), job_id


def _submit(step: Step, site: SlurmSite) -> str:
    """Returns the id of a new job."""
    for kept in step.folder.glob("*.kept"):  # of other jobs
        shutil.rmtree(kept)
    path = step.folder / "script.sh"
    with write_whole(path) as file:
        file.write(step.script)
    write_json(step.folder / "job.json", {"key": step.key, "job": None})
    try:
        job_id = slurm.submit(path, step.key, site.pass_environment)
    except slurm.SchedulerError as error:
        # Slurm may have taken the job, and its answer got lost.
        is_silent = "timed out" in str(error) or "did not answer" in str(error)
        found = slurm.find_by_key(step.key) if is_silent else None
        if found is None:
            raise
        job_id = found
    write_json(step.folder / "job.json", {"key": step.key, "job": job_id})
    return job_id
