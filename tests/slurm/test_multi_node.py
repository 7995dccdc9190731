"""A stage with processes on several nodes of a real cluster: accelerate starts them on each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ruamel.yaml import YAML

from tests.demo import ROOT, make_demo, write_stage
from tests.slurm.launching import NEEDS, add_site, set_needs

if TYPE_CHECKING:
    from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm

PROCESSES = """
    distributed: str
    num_processes: int
    num_threads: int
    cpu_isa: str
"""
VALUES = """\
demo:
  image: cpu
  size: 3
  distributed: ddp
  num_processes: 2
  num_threads: 1
  cpu_isa: native
report:
  recipe: tiny
"""
BODY = """
names = ("RANK", "R1_NODE_RANK", "R1_NUM_NODES", "SLURMD_NODENAME", "MASTER_ADDR")
print("rank", *(os.environ[name] for name in (*names, "CUDA_VISIBLE_DEVICES")), flush=True)
while not (work.parent / "go").exists():
    time.sleep(0.1)
(out / "a").write_text(os.environ["RANK"])
return {"demo": {"n": params.size}}
"""
FAILS = """
if os.environ["RANK"] == "1":
    os._exit(7)
time.sleep(60)
"""
SUMS = """
import torch
torch.distributed.init_process_group("gloo")
total = torch.ones(1)
torch.distributed.all_reduce(total)
torch.distributed.destroy_process_group()
print("rank", os.environ["RANK"], "of", int(total.item()), flush=True)
return {"demo": {"n": params.size}}
"""


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Returns a repository whose stage has a process on each of two nodes."""
    repo = tmp_path / "repo"
    make_demo(repo)
    add_site(repo)
    params = repo / "stages/demo/params.py"
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("    size: int\n", f"    size: int{PROCESSES}"), "utf-8")
    (repo / "params.yaml").write_text(VALUES, encoding="utf-8")
    shutil.copytree(ROOT / "stages/sft/accelerate", repo / "stages/sft/accelerate")
    set_needs(repo, "demo", nodes=2, gpus_per_node=1)
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


def test_nodes_start_their_processes_which_find_each_other_and_their_gpus(
    cluster: Cluster, demo: Path
) -> None:
    job = submit(cluster, demo)
    cluster.wait_until(lambda: len(begun(demo, job)) == 2, job)
    (demo / "work/demo/go").touch()
    assert cluster.wait(job)["JobState"] == "COMPLETED"
    assert begun(demo, job) == ["rank 0 0 2 node1 127.0.0.1 0", "rank 1 1 2 node2 127.0.0.1 0"]
    assert (demo / f"work/jobs/demo/{job}.0.status").read_text() == "0\n"
    assert (demo / "artifacts/demo/a").read_text() == "0", "the first process alone publishes"


def test_warning_ends_all_ranks_and_the_job_starts_again(cluster: Cluster, demo: Path) -> None:
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


def test_process_that_fails_ends_the_job(cluster: Cluster, demo: Path) -> None:
    """The status is srun's, the highest of all nodes': of those, too, that were told to end."""
    write_stage(demo, FAILS)
    job = submit(cluster, demo)
    found = cluster.wait(job)
    assert (found["JobState"], found["Restarts"]) == ("FAILED", "0")
    assert found["ExitCode"] in {"137:0", "143:0"}, "srun sends SIGKILL two seconds after SIGTERM"
    log = (demo / f"work/jobs/demo/{job}.log").read_text(encoding="utf-8")
    assert "rederive: demo: process 1 ended with 7, and the others were stopped" in log
    assert "srun: error: node2: task 1: Exited with exit code 1" in log


def test_processes_of_all_nodes_are_tried_before_the_stage(cluster: Cluster, demo: Path) -> None:
    """They meet at the port that the stage then has to itself."""
    write_stage(demo, SUMS)
    job = submit(cluster, demo)
    assert cluster.wait(job)["JobState"] == "COMPLETED"
    assert begun(demo, job) == ["rank 0 of 2", "rank 1 of 2"]


def test_node_that_does_not_come_is_named(cluster: Cluster, demo: Path) -> None:
    """It is node2, which is slow to start: the first node waits for its process in vain."""
    python = demo.parent / "python"
    body = f'[ "$SLURMD_NODENAME" = node2 ] && sleep 60\nexec {sys.executable} "$@"'
    python.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    python.chmod(0o755)
    add_site(demo, python=str(python), collective_timeout_s=3)
    job = submit(cluster, demo)
    found = cluster.wait(job)
    log = (demo / f"work/jobs/demo/{job}.log").read_text(encoding="utf-8")
    assert found["JobState"] == "FAILED"
    assert "rederive: ranks 1 of 2 (node ranks 1 of 2) did not come within 3 s: see what" in log
    assert begun(demo, job) == []


# What serves is a line of shell here: vLLM has tests of its own.
SERVES = """\
#!/bin/sh
case $3 in
    serve) echo http://there:1 >"$6"; exec sleep 300 ;;
    preflight) exit 0 ;;
esac
"""


def test_warning_ends_all_ranks_beside_a_server(cluster: Cluster, demo: Path) -> None:
    """The server's step comes before the stage's, which is told of the time limit by its number."""
    params = demo / "stages/demo/params.py"
    more = "    use_vllm: bool\n    vllm_mode: str\n    vllm_tensor_parallel_size: int\n"
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("    size: int\n", f"    size: int\n{more}"), "utf-8")
    more = "  use_vllm: true\n  vllm_mode: server\n  vllm_tensor_parallel_size: 4\n"
    text = VALUES.replace("  size: 3\n", f"  size: 3\n{more}")
    (demo / "params.yaml").write_text(text, encoding="utf-8")
    needs = {
        "demo": NEEDS | {"nodes": 2, "gpus_per_node": 1},
        "server": NEEDS | {"gpus_per_node": 4},
    }
    YAML(pure=True).dump({"tiny": needs}, demo / "slurm/resources.yaml")
    python = demo.parent / "python"
    python.write_text(f'{SERVES}exec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    add_site(demo, python=str(python))
    job = submit(cluster, demo)
    first = f"{job}+0"
    cluster.wait_until(lambda: len(begun(demo, job)) == 2, first)
    cluster.call("scancel", "--batch", "--signal=USR1", job)
    cluster.wait_until(lambda: len(begun(demo, job)) == 4, first)
    log = (demo / f"work/jobs/demo/{job}.log").read_text(encoding="utf-8")
    assert "rederive: demo: stopped before its time limit, and queued again" in log
    (demo / "work/demo/go").touch()
    for component in (first, f"{job}+1"):
        found = cluster.wait(component)
        assert (found["JobState"], found["Restarts"]) == ("COMPLETED", "1")
