"""The script for several nodes on a real cluster; no stage of the recipe asks for several yet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.demo import make_demo, write_stage
from tests.slurm.launching import add_site, set_needs

if TYPE_CHECKING:
    from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm

# The contract is not made for several ranks yet: each takes the others' folder for a leftover.
BODY = """
rank = int(os.environ["R1_NODE_RANK"])
names = ("R1_NUM_NODES", "SLURMD_NODENAME", "MASTER_ADDR", "CUDA_VISIBLE_DEVICES")
print("rank", rank, *(os.environ[name] for name in names), flush=True)
while not (work.parent / "go").exists():
    time.sleep(0.1)
if rank:
    os._exit(0)
out.mkdir(exist_ok=True)
return {"demo": {"n": params.size}}
"""
# The first rank listens where all have met before; the others find it there.
LISTENS = """
import socket
rank = int(os.environ["R1_NODE_RANK"])
place = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank:
    for _ in range(100):
        try:
            socket.create_connection(place).sendall(b"x")
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    print("rank 1 has found the other", flush=True)
    os._exit(0)
with socket.create_server(place) as server:
    other, _ = server.accept()
    assert other.recv(1) == b"x"
print("rank 0 was found", flush=True)
out.mkdir(exist_ok=True)
return {"demo": {"n": params.size}}
"""


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Returns a repository with one stage that asks for two nodes."""
    repo = tmp_path / "repo"
    make_demo(repo)
    add_site(repo)
    set_needs(repo, "demo", nodes=2, gpus_per_node=8)
    write_stage(repo, BODY)
    (repo / "work/jobs/demo").mkdir(parents=True)  # where the script's log goes
    return repo


def submit(cluster: Cluster, repo: Path) -> str:
    """Returns the id of the job that `python -m stages render demo` describes."""
    done = subprocess.run(
        [sys.executable, "-m", "stages", "render", "demo"],
        cwd=repo,
        env=os.environ | {"R1_SITE": "test"},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (repo / "script.sh").write_text(done.stdout, encoding="utf-8")
    return cluster.call("sbatch", "--parsable", str(repo / "script.sh"))


def begun(repo: Path, job: str) -> list[str]:
    """Returns what the ranks have said."""
    log = repo / f"work/jobs/demo/{job}.log"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return sorted(line for line in lines if line.startswith("rank"))


def test_ranks_find_each_other_and_their_gpus(cluster: Cluster, demo: Path) -> None:
    job = submit(cluster, demo)
    cluster.wait_until(lambda: len(begun(demo, job)) == 2, job)
    (demo / "work/demo/go").touch()
    assert cluster.wait(job)["JobState"] == "COMPLETED"
    gpus = "0,1,2,3,4,5,6,7"
    assert begun(demo, job) == [
        f"rank 0 2 node1 127.0.0.1 {gpus}",
        f"rank 1 2 node2 127.0.0.1 {gpus}",
    ]
    assert (demo / f"work/jobs/demo/{job}.0.status").read_text() == "0\n"
    assert (demo / "artifacts/demo").is_dir()


def test_warning_ends_all_ranks_and_the_job_starts_again(cluster: Cluster, demo: Path) -> None:
    """The first rank that has ended makes srun end the others, too, if they are slower."""
    job = submit(cluster, demo)
    cluster.wait_until(lambda: len(begun(demo, job)) == 2, job)
    cluster.call("scancel", "--batch", "--signal=USR1", job)
    cluster.wait_until(lambda: len(begun(demo, job)) == 4, job)
    log = (demo / f"work/jobs/demo/{job}.log").read_text(encoding="utf-8")
    assert "rederive: demo: terminated; nothing half-written was kept" in log
    assert "rederive: demo: stopped before its time limit, and queued again" in log
    (demo / "work/demo/go").touch()
    found = cluster.wait(job)
    assert (found["JobState"], found["Restarts"]) == ("COMPLETED", "1")


def test_rank_that_fails_ends_the_job(cluster: Cluster, demo: Path) -> None:
    """The status is srun's, the highest of all ranks': of those, too, that were told to end."""
    write_stage(demo, 'if os.environ["R1_NODE_RANK"] == "1": os._exit(7)\ntime.sleep(60)\n')
    job = submit(cluster, demo)
    found = cluster.wait(job)
    assert (found["JobState"], found["ExitCode"], found["Restarts"]) == ("FAILED", "143:0", "0")
    assert (demo / f"work/jobs/demo/{job}.0.status").read_text() == "143\n"
    log = (demo / f"work/jobs/demo/{job}.log").read_text(encoding="utf-8")
    assert "srun: error: node2: task 1: Exited with exit code 7" in log


@pytest.fixture
def pair(demo: Path) -> Path:
    """Returns the repository; its stage has a process on each of two nodes."""
    params = demo / "stages/demo/params.py"
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("size: int", "size: int\n    num_processes: int"), "utf-8")
    (demo / "params.yaml").write_text("demo:\n  size: 3\n  num_processes: 2\n", "utf-8")
    set_needs(demo, "demo", nodes=2)
    return demo


def test_processes_of_all_nodes_are_tried_before_the_stage(cluster: Cluster, pair: Path) -> None:
    """They meet at the port that the stage then has to itself."""
    write_stage(pair, LISTENS)
    job = submit(cluster, pair)
    assert cluster.wait(job)["JobState"] == "COMPLETED"
    assert len(begun(pair, job)) == 2


def test_node_that_does_not_come_is_named(cluster: Cluster, pair: Path) -> None:
    """It is node2, which is slow to start: the first node waits for its process in vain."""
    python = pair.parent / "python"
    body = f'[ "$SLURMD_NODENAME" = node2 ] && sleep 60\nexec {sys.executable} "$@"'
    python.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    python.chmod(0o755)
    add_site(pair, python=str(python), collective_timeout_s=3)
    job = submit(cluster, pair)
    found = cluster.wait(job)
    log = (pair / f"work/jobs/demo/{job}.log").read_text(encoding="utf-8")
    assert found["JobState"] == "FAILED"
    assert "rederive: ranks 1 of 2 (node ranks 1 of 2) did not come within 3 s: see what" in log
    assert begun(pair, job) == []
