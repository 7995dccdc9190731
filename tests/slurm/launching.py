"""`python -m stages run` under a site of the test cluster, as a user runs it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

if TYPE_CHECKING:
    from tests.slurm.cluster import Cluster

ROOT = Path(__file__).parents[2]
NEEDS = {"array": 1, "nodes": 1, "gpus_per_node": 0, "cpus_per_task": 2, "mem": "4G"}
NEEDS |= {"time": "00:10:00"}
# Bodies of the stage `demo`: one ends at once, the other at `let_go`.
PASSES = '(out / "a").write_text("1")\nreturn {"demo": {"n": params.size}}'
WAITS = f"""
print("the stage has begun", flush=True)
while not (work / "go").exists():
    time.sleep(0.1)
{PASSES}
"""


def add_site(repo: Path, **changes: Any) -> None:
    """Gives the repository the launcher's files and the site `test`: the example, but quick."""
    if not (repo / "slurm").exists():
        shutil.copytree(ROOT / "slurm", repo / "slurm")
    site = YAML(typ="safe", pure=True).load(repo / "slurm/sites/example.yaml")
    site |= {"poll_s": 0.2, "min_scratch_bytes": 1000, "signal_before_end_s": 30}
    # The repository's name: jobs are told apart by it.
    site |= {"job_name_prefix": f"{repo.parent.name}-", "scratch": str(repo.parent / "scratch")}
    assert changes.keys() <= site.keys()
    YAML(pure=True).dump(site | changes, repo / "slurm/sites/test.yaml")


def add_image_site(repo: Path, image: Path, **changes: Any) -> None:
    """Gives the repository the site `test` with jobs in the image, and the image's lock."""
    add_site(repo, images=str(image.parent), python="python", **changes)
    (repo / "containers").mkdir(exist_ok=True)
    shutil.copy(ROOT / "containers/cpu.lock.yaml", repo / "containers")


def let_go(repo: Path) -> None:
    """Lets the stage end that WAITS."""
    (work,) = repo.glob("work/demo/*")
    (work / "go").touch()


def set_needs(repo: Path, *stages: str, **changes: Any) -> None:
    """Sets what these stages ask for, and nothing for others."""
    recipe = YAML(typ="safe", pure=True).load(repo / "params.yaml")["report"]["recipe"]
    needs = {recipe: dict.fromkeys(stages, NEEDS | changes)}
    YAML(pure=True).dump(needs, repo / "slurm/resources.yaml")


@dataclass(frozen=True)
class Launched:
    """A launcher that runs, and the file with what it says."""

    cluster: Cluster
    repo: Path
    process: subprocess.Popen[bytes]
    shown: Path

    def text(self) -> str:
        """Returns what the user has seen so far."""
        return self.shown.read_text(encoding="utf-8")

    def wait_for(self, text: str, timeout_s: float = 60) -> None:
        """Waits until the user has seen the text."""
        deadline = time.monotonic() + timeout_s
        while text not in self.text():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def finish(self, timeout_s: float = 120) -> int:
        """Returns the exit status."""
        try:
            return self.process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(self.text()) from None

    def job(self) -> dict[str, str]:
        """Returns what Slurm says of its job, the only one of its repository."""
        (job,) = jobs_of(self.cluster, self.repo)
        return job

    def stop(self, number: signal.Signals) -> int:
        """Sends a signal, and returns the exit status."""
        self.process.send_signal(number)
        return self.finish()


def launch(cluster: Cluster, repo: Path, *arguments: str, command: str = "run") -> Launched:
    """Starts `python -m stages run ...`, or another command, under the site."""
    shown = repo.parent / f"shown-{time.monotonic_ns()}"
    environment = {**os.environ, **cluster.env, "R1_SITE": "test"}
    with shown.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "stages", command, *arguments],
            cwd=repo,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    cluster.users.append(process)
    return Launched(cluster, repo, process, shown)


def jobs_of(cluster: Cluster, repo: Path) -> list[dict[str, str]]:
    """Returns what Slurm says of the repository's jobs, also of those that have ended."""
    lines = cluster.call("squeue", "--noheader", "--states=all", "--format=%i %j").splitlines()
    found = [line.split() for line in lines]
    ids = [job for job, name in found if name.startswith(f"{repo.parent.name}-")]
    return [cluster.show(job) for job in ids]
