"""Runs a stage's cell where R1_SITE says: what `python -m stages run` does at other sites."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

from stages._contract import params
from stages._contract.artifacts import publish, write_json, write_whole
from stages._contract.run import PARAMS, run_stage
from stages._launch import slurm
from stages._launch.apptainer import find_image, replace_process
from stages._launch.deps import find_changes, hash_deps, key_of
from stages._launch.render import JOBS, arguments_of, list_outputs, name_of, render
from stages._launch.resources import load_resources
from stages._launch.site import ApptainerSite, LocalSite, SlurmSite, load_site
from stages._launch.watch import Screen, Signals, Watch, noted_signals

if TYPE_CHECKING:
    from pathlib import Path

    from stages._launch.slurm import Job

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


def launch(stage: str, cell: dict[str, str]) -> int:
    """Runs the stage's cell at the site of R1_SITE, and returns the exit status.

    The status is the stage's own; 130 or 143 after Ctrl-C or SIGTERM, which cancel a job; 1, with
    one line on stderr, if it could not run or its result must not be used.
    """
    try:
        site = load_site(os.environ.get("R1_SITE") or "local")
        if isinstance(site, LocalSite):
            return run_stage(stage, cell)
        name_of(stage, cell)
        image = params.load(PARAMS, stage).image  # here, and not after hours in a queue
        if isinstance(site, ApptainerSite):
            found = find_image(site.images, image)
            return replace_process(site, found, ["exec", *arguments_of(stage, cell)])
        return _run_job(stage, cell, site)
    except KeyboardInterrupt:  # while files were hashed: a job notes its signals
        print(f"rederive: {stage}: interrupted", file=sys.stderr)  # noqa: T201 - as below
        return 130
    except (ValueError, FileNotFoundError) as error:
        if os.environ.get("R1_TRACEBACK"):
            raise
        print(f"rederive: {stage}: {error}", file=sys.stderr)  # noqa: T201 - this is the message
        return 1


def render_job(stage: str, cell: dict[str, str]) -> str:
    """Returns the script that `launch` would submit.

    Raises:
        ValueError: R1_SITE names no site of kind slurm, or a value of its file is wrong.
    """
    name = os.environ.get("R1_SITE") or "local"
    site = load_site(name)
    if not isinstance(site, SlurmSite):
        raise ValueError(  # noqa: TRY004 - the user's value, not an argument's type
            f"the site {name} is of kind {site.kind}, which has no scripts: set R1_SITE, e.g. "
            f"R1_SITE=example python -m stages render {stage}"
        )
    return _render(stage, cell, site)


def _render(stage: str, cell: dict[str, str], site: SlurmSite) -> str:
    """Returns the script of the stage's cell, in the image that params.yaml names for the stage."""
    image = find_image(site.images, params.load(PARAMS, stage).image) if site.images else None
    return render(stage, cell, site, load_resources(stage), image)


def _run_job(stage: str, cell: dict[str, str], site: SlurmSite) -> int:
    script = _render(stage, cell, site)
    name = name_of(stage, cell)
    folder = JOBS / name
    digests = hash_deps(stage, cell)
    assert site.work_dir, "load_site has filled it in"
    key = key_of(stage, cell, digests, site.work_dir)
    with noted_signals() as signals:
        job_id, is_live = _find_job(folder, name, key)
        is_found = job_id is not None
        if signals:
            return signals.status
        job_id = job_id or _submit(folder, script, key, site)
        screen = Screen(name, folder / f"{job_id}.log", skip=is_found)
        if is_found and not is_live:
            screen.say(f"job {job_id} has done this while nobody watched it: taking its result")
        else:
            screen.say(f"{'watching' if is_found else 'submitted'} job {job_id}, log {folder}/")
            watch = Watch(job_id, site.poll_s, screen, signals)
            status = _judge(watch, folder, screen, signals)
            if status:
                return status
    return _take_result(stage, cell, digests, job_id, folder / f"{job_id}.kept")


def _find_job(folder: Path, name: str, key: str) -> tuple[str | None, bool]:
    """Returns the id of the job that a killed launcher has left for this, and whether it lives.

    There is none if it ended without a result.

    Raises:
        ValueError: a job for other parameters or code is there, and would write the same outputs.
    """
    try:
        record = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, False
    # Without an id, the launcher was killed while it submitted.
    job_id: str | None = record["job"] or slurm.find_by_key(record["key"])
    job = slurm.look(job_id) if job_id else None
    if job is None or job.has_ended:
        is_kept = (folder / f"{job_id}.kept").is_dir() and _last_status(folder, job_id) == 0
        return (job_id if is_kept and record["key"] == key else None), False
    if record["key"] != key:
        raise ValueError(
            f"job {job.id} is {job.describe()} for {name} with other parameters, data or code, and "
            f"writes the same files: wait for its end, or `scancel {job.id}`, and run again"
        )
    return job.id, True


def _submit(folder: Path, script: str, key: str, site: SlurmSite) -> str:
    """Returns the id of a new job."""
    for kept in folder.glob("*.kept"):  # of other jobs
        shutil.rmtree(kept)
    path = folder / "script.sh"
    with write_whole(path) as file:
        file.write(script)
    write_json(folder / "job.json", {"key": key, "job": None})
    try:
        job_id = slurm.submit(path, key, site.pass_environment)
    except slurm.SchedulerError as error:
        # Slurm may have taken the job, and its answer got lost.
        is_silent = "timed out" in str(error) or "did not answer" in str(error)
        found = slurm.find_by_key(key) if is_silent else None
        if found is None:
            raise
        job_id = found
    write_json(folder / "job.json", {"key": key, "job": job_id})
    return job_id


def _judge(watch: Watch, folder: Path, screen: Screen, signals: Signals) -> int:
    """Watches the job to its end, and returns the exit status; says on stderr why it is not 0."""
    try:
        job = watch.follow()
    finally:
        screen.clear()
    if signals:
        ended = job is None or job.has_ended
        what = "is cancelled" if ended else "was told to end, and may still run"
        screen.say(f"stopped; job {watch.job_id}, which was {watch.at_signal}, {what}")
        return signals.status
    if job is None:
        return _judge_forgotten(watch, folder, screen)
    status = job.status
    if job.state in {"COMPLETED", "FAILED"}:
        status = _wait_for_status(folder, job)
        screen.show_log()
    if job.state == "COMPLETED" and status == 0:
        return 0
    remedy = _REMEDIES.get(job.state, f"what it said is above and in {folder}/{job.id}.log")
    if job.state == "FAILED" and not _status_file(folder, job).exists():
        remedy = "it left no status: see whether the node can read and write the site's work_dir"
    screen.say(f"job {job.id} is {_explain(job)}, with status {status}: {remedy}")
    return status or 1


def _explain(job: Job) -> str:
    """Returns state, reason and place of a job that has ended."""
    where = f" on {job.nodes}" if job.nodes else ""
    return f"{job.state}{where}" + (f" ({job.reason})" if job.reason else "")


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


def _last_status(folder: Path, job_id: str | None) -> int | None:
    """Returns the status of the job's last start, or None if none has left one."""
    files = {int(path.suffixes[-2][1:]): path for path in folder.glob(f"{job_id}.*.status")}
    return int(files[max(files)].read_text(encoding="utf-8")) if files else None


def _judge_forgotten(watch: Watch, folder: Path, screen: Screen) -> int:
    """Returns the status that a job has left that Slurm does not know any more."""
    job_id = watch.job_id
    status = _last_status(folder, job_id)
    if status:
        screen.say(f"job {job_id} ended with status {status}; see {folder}/{job_id}.log")
    if status is not None:
        return status
    seen = f", last seen {watch.last.describe()}" if watch.last else ""
    raise ValueError(
        f"Slurm does not know job {job_id} any more{seen}, and it left no status: see "
        f"{folder}/{job_id}.log, and run again"
    )


def _restore(kept: Path, outputs: list[Path]) -> None:
    """Links what a job has kept to its places; folders are there whole or not at all."""
    manifests = [path.relative_to(kept) for path in kept.glob("runs/*")]
    for path in [*manifests, *outputs]:
        if (kept / path).is_dir():
            with publish(path) as folder:
                shutil.copytree(kept / path, folder, copy_function=os.link, dirs_exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.hardlink_to(kept / path)


def _take_result(
    stage: str, cell: dict[str, str], before: dict[str, str], job_id: str, kept: Path
) -> int:
    """Returns 0 if the job's result is there and belongs to what it is recorded under.

    Raises:
        ValueError: it is not there, or something that it depends on has changed meanwhile.
    """
    outputs = list_outputs(stage, cell)
    if not all(path.exists() for path in outputs) and kept.is_dir():
        _restore(kept, outputs)
    missing = [path for path in outputs if not path.exists()]
    shutil.rmtree(kept, ignore_errors=True)  # not to be taken again, above all if it is refused
    if missing:
        raise ValueError(
            f"job {job_id} has succeeded, and {missing[0]} is not seen here: the repository must "
            f"lie on a filesystem that all nodes share"
        )
    changes = find_changes(before, hash_deps(stage, cell))
    if changes:
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise ValueError(
            f"{changes[0]}{more} changed while job {job_id} ran, so its result belongs to neither "
            f"version: run again, and work in another clone or worktree meanwhile"
        )
    return 0
