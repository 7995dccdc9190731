"""What Slurm is asked and told, through its own commands: submit, look, cancel, exclude a node.

Slurm's accounting is not asked for: many a cluster has none. `scontrol` knows a job for some
minutes after its end, and the job's script leaves its status in a file of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# What a job needs of the submitting shell. Else SBATCH_PARTITION and its like would overrule the
# script, and SLURM_* of a job that submits this one would contradict it.
_KEPT = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "R1_TRACEBACK", "SLURM_CONF", "USER")
_ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
}
# A pending job with one of these reasons waits for an administrator, or for ever.
_HOPELESS = {
    "AccountNotAllowed",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "JobHoldMaxRequeue",
    "launch_failed_requeued_held",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "QOSNotAllowed",
}
_BROKEN_NODE = re.compile(r"down|drain|fail|error|unknown|\*", re.IGNORECASE)
_TIMEOUT_S = 120


class SchedulerError(ValueError):
    """A command of Slurm's failed; the message is what it said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job, or a task of an array, as the scheduler sees it; a task's id is `<array>_<number>`."""

    id: str
    state: str
    reason: str
    nodes: str
    status: int
    restarts: int

    @property
    def has_ended(self) -> bool:
        """Returns whether it will not run again."""
        return self.state in _ENDED

    @property
    def is_hopeless(self) -> bool:
        """Returns whether it waits for what does not happen by itself."""
        return self.state == "PENDING" and self.reason in _HOPELESS

    def describe(self) -> str:
        """Returns the state with what explains it, e.g. `PENDING (Resources)`."""
        if self.reason not in {"", "None"}:
            return f"{self.state} ({self.reason})"
        is_placed = self.nodes and self.state != "PENDING"
        return f"{self.state} on {self.nodes}" if is_placed else self.state


def submit(script: Path, key: str, pass_environment: list[str]) -> str:
    """Returns the id of the job that runs the script, with the key as its comment.

    Raises:
        SchedulerError: Slurm refused it, or did not answer.
    """
    names = {*_KEPT, *pass_environment}
    env = {name: value for name, value in os.environ.items() if name in names}
    env["R1_SUBMITTED"] = f"{time.time():.0f}"  # by this machine's clock
    # The job gets exactly these.
    command = ["sbatch", "--parsable", "--export=ALL", f"--comment={key}", str(script)]
    answer = _call(command, env)
    job = (answer.split() or [""])[-1].partition(";")[0]  # the last of it: sites greet before
    if not job.isdecimal():
        raise SchedulerError(f"sbatch gave no job's id, but {' '.join(answer.split())!r}")
    return job


def find_by_key(key: str) -> str | None:
    """Returns the id of the user's waiting or running job with this comment, if there is one.

    Tasks have the comment of their array, whose id it is then; a server has that of its job, whose
    id comes before its own.
    """
    listing = _call(["squeue", "--noheader", f"--user={os.getuid()}", "--sort=i", "--format=%F %k"])
    for line in listing.splitlines():
        job, _, comment = line.strip().partition(" ")
        if comment.strip() == key:
            return job
    return None


def look(job: str) -> list[Job]:
    """Returns the job, or the tasks if it is an array; without those that Slurm has forgotten.

    Raises:
        SchedulerError: Slurm did not answer.
    """
    try:
        text = _call(["scontrol", "--oneliner", "show", "job", job])
    except SchedulerError as error:
        if "Invalid job id" in str(error):
            return []
        raise
    jobs = [job for line in text.splitlines() for job in parse_jobs(line)]
    return [join_components(jobs)] if "HetJobOffset=" in text else jobs


def join_components(jobs: list[Job]) -> Job:
    """Returns a job that has a server as one: where both are, and why either waits."""
    return replace(
        jobs[0],
        reason=next((job.reason for job in jobs if job.reason), ""),
        nodes=",".join(job.nodes for job in jobs if job.nodes),
    )


def parse_jobs(text: str) -> list[Job]:
    """Returns what a line of `scontrol --oneliner show job` describes.

    That is one job, or the tasks of an array that have not begun, which share a line.
    """
    found: dict[str, str] = {}
    for word in text.split():
        key, separator, value = word.partition("=")
        if separator:
            found.setdefault(key, "" if value in {"(null)", "None"} else value)
    status, _, number = found.get("ExitCode", "0:0").partition(":")
    job = Job(
        id=found["JobId"],
        state=found["JobState"],
        reason=found.get("Reason", ""),
        nodes=found.get("NodeList", ""),
        status=int(status) or (128 + int(number) if int(number) else 0),  # as shells say it
        restarts=int(found.get("Restarts", "0")),
    )
    if "ArrayTaskId" not in found:
        return [job]
    tasks = _expand(found["ArrayTaskId"])
    return [replace(job, id=f"{found['ArrayJobId']}_{task}") for task in tasks]


def _expand(tasks: str) -> list[int]:
    """Returns the numbers that a text like `1,4-6` or `1-9:2%2` means; %2: two at a time."""
    numbers: list[int] = []
    for part in tasks.partition("%")[0].split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        numbers += range(int(first), int(last or first) + 1, int(step or 1))
    return numbers


def cancel(job: str) -> None:
    """Cancels the job, with all its tasks, if it has not ended."""
    _call(["scancel", "--quiet", job])


def list_broken(nodes: str) -> list[str]:
    """Returns those of the nodes, e.g. `node[1-4]`, that Slurm does not give to jobs now."""
    listing = _call(["sinfo", "--noheader", "--Node", f"--nodes={nodes}", "--format=%N %T"])
    pairs = [line.split() for line in listing.splitlines()]
    return sorted({name for name, state in pairs if _BROKEN_NODE.search(state)})


def exclude(job: str, nodes: list[str]) -> None:
    """Keeps a waiting job away from the nodes, and from those that it was to avoid before."""
    found = re.search(r"\bExcNodeList=(\S+)", _call(["scontrol", "--oneliner", "show", "job", job]))
    before = [] if found is None or found[1] == "(null)" else [found[1]]
    _call(["scontrol", "update", f"JobId={job}", f"ExcNodeList={','.join([*before, *nodes])}"])


def _call(command: list[str], env: dict[str, str] | None = None) -> str:
    """Returns what the command prints. Ctrl-C is not for it: what it does, it does to the end."""
    try:
        done = subprocess.run(  # noqa: S603
            command,
            # 0: lists of tasks are whole.
            env={**(os.environ if env is None else env), "SLURM_BITSTR_LEN": "0"},
            stdin=subprocess.DEVNULL,
            text=True,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_S,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise SchedulerError(
            f"there is no {command[0]} here: R1_SITE names a site of kind slurm, so run where "
            f"Slurm's commands are"
        ) from None
    except subprocess.TimeoutExpired:
        raise SchedulerError(f"{command[0]} did not answer within {_TIMEOUT_S} s") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise SchedulerError(f"{command[0]} says: {said or f'status {done.returncode}'}")
    return done.stdout
