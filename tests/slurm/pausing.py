"""The sft of the recipe as a job, stopped where a test wants it: the tiny model is too fast."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Any

from ruamel.yaml import YAML

from stages._contract.artifacts import sha256_file, sha256_tree
from tests.proc import read_proc
from tests.slurm.launching import Launched, add_site, jobs_of, set_needs

POLL_S = 0.1
# Python runs it first if it is `sitecustomize`. A stage on its first node stops itself when it is
# about to finish its second checkpoint: nobody else could be sure to stop it between two.
PAUSES = """
import os, signal, sys

def pause(event, arguments):
    if event == "open" and str(arguments[0]).endswith("/checkpoint-4/trainer_state.json"):
        os.kill(os.getpid(), signal.SIGSTOP)

if not int(os.environ.get("SLURM_RESTART_COUNT", "0")):
    sys.addaudithook(pause)
"""


def copy_with_site(repo: Path, folder: Path, time: str, **changes: Any) -> Path:
    """Returns a copy of the repository in the folder, with this limit of time and PAUSES."""
    clone = Path(shutil.copytree(repo, folder / "clone", symlinks=True))
    (folder / "pauses").mkdir()
    (folder / "pauses/sitecustomize.py").write_text(PAUSES, encoding="utf-8")
    add_site(clone, environment={"PYTHONPATH": str(folder / "pauses")}, **changes)
    stages = YAML(typ="safe").load(clone / "dvc.yaml")["stages"]
    set_needs(clone, *stages, time=time)
    return clone


def digests(repo: Path, stage: str) -> dict[str, str]:
    """Returns those of what the stage leaves, but for the manifest with its times."""
    found = {"out": sha256_tree(repo / "artifacts" / stage)}
    for path in (repo / f"metrics/{stage}.json", repo / f"runs/{stage}.steps.jsonl"):
        if path.exists():
            found[path.name] = sha256_file(path)
    return found


class Paused:
    """The stage of a job that has stopped as PAUSES makes it; `step` is what it has saved."""

    def __init__(self, launched: Launched) -> None:
        """Waits until the stage has stopped."""
        self.pids: list[int] = []
        while not self.pids:
            assert launched.process.poll() is None, launched.text()
            sleep(POLL_S)
            for job in jobs_of(launched.cluster, launched.repo):
                found = launched.cluster.processes(f"SLURM_JOB_ID={job['JobId']}")
                self.pids = [pid for pid in found if is_stopped(pid)]
        self.step = saved_step(launched.repo)

    def wait_for_term(self) -> None:
        """Waits until the stage has been told to end, which it cannot hear yet."""
        while not any(has_pending(pid, signal.SIGTERM) for pid in self.pids):
            sleep(POLL_S)

    def go_on(self) -> None:
        """Lets it hear what it has been told."""
        for pid in self.pids:
            with suppress(ProcessLookupError):  # ended by one that went on before
                os.kill(pid, signal.SIGCONT)


def is_stopped(pid: int) -> bool:
    """Returns whether the process has stopped and waits for SIGCONT."""
    return "\nState:\tT" in read_proc(f"{pid}/status")


def has_pending(pid: int, number: signal.Signals) -> bool:
    """Returns whether the process has been sent a signal that it has not taken yet."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    masks = re.findall(r"(?m)^(?:Sig|Shd)Pnd:\t(\w+)$", status)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def saved_step(repo: Path) -> int:
    """Returns the last step of sft whose checkpoint is whole, or 0."""
    step = 0
    for state in repo.glob("work/sft/*/checkpoints/checkpoint-*/trainer_state.json"):
        try:
            step = max(step, json.loads(state.read_text(encoding="utf-8"))["global_step"])
        except (FileNotFoundError, json.JSONDecodeError):  # it is being written
            continue
    return step
