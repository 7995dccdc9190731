"""`dvc repro` as a job of its own, which submits the stages' jobs: no login session need stay."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ruamel.yaml import YAML

from tests.demo import make_demo, write_stage
from tests.slurm.launching import (
    NEEDS,
    WAITS,
    Launched,
    add_site,
    jobs_of,
    launch,
    let_go,
    set_needs,
)

if TYPE_CHECKING:
    from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Returns a repository of DVC's with a graph of one stage, which waits."""
    repo = tmp_path / "repo"
    make_demo(repo)
    add_site(repo)
    set_needs(repo, "demo", "controller")
    write_stage(repo, WAITS)
    (repo / ".dvcignore").write_text("__pycache__\n", encoding="utf-8")
    for words in (("init", "--no-scm", "--quiet"), ("config", "core.analytics", "false")):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=repo, check=True)
    return repo


def control(cluster: Cluster, repo: Path, *arguments: str) -> Launched:
    """Starts `python -m stages controller`."""
    return launch(cluster, repo, *arguments, command="controller")


def job_of(cluster: Cluster, repo: Path, name: str) -> dict[str, str]:
    """Returns what Slurm says of the only job of that name."""
    (job,) = (job for job in jobs_of(cluster, repo) if job["JobName"].endswith(f"-{name}"))
    return job


def test_graph_runs_on_the_cluster_alone(cluster: Cluster, demo: Path) -> None:
    """The terminal may go; the same command comes back to it, and no other one is in its way."""
    launched = control(cluster, demo)
    launched.wait_for("the stage has begun")
    launched.stop(signal.SIGKILL)
    other = control(cluster, demo, "--force")
    assert other.finish() == 1
    controller = job_of(cluster, demo, "controller")
    assert f"job {controller['JobId']} is RUNNING on node1 for controller" in other.text()
    again = control(cluster, demo)
    again.wait_for(f"watching job {controller['JobId']}")
    let_go(demo)
    assert again.finish() == 0, again.text()
    assert "Use `dvc push` to send your updates" in again.text()
    assert job_of(cluster, demo, "demo")["JobState"] == "COMPLETED"
    assert (demo / "artifacts/demo/a").read_text(encoding="utf-8") == "1"
    assert "demo:" in (demo / "dvc.lock").read_text(encoding="utf-8")
    # Again: DVC is asked again, and finds nothing to do.
    assert control(cluster, demo).finish() == 0
    assert len(jobs_of(cluster, demo)) == 3


def test_status_and_arguments_are_dvcs(cluster: Cluster, demo: Path) -> None:
    write_stage(demo, 'raise ValueError("demo.size is too small")')
    launched = control(cluster, demo, "--single-item", "demo")
    assert launched.finish() == 255
    assert "rederive: demo: demo.size is too small\n" in launched.text()
    controller = job_of(cluster, demo, "controller")
    assert (
        f"job {controller['JobId']} is FAILED on node1 (NonZeroExitCode), with status 255"
        in (launched.text().splitlines()[-1])
    )
    wrong = control(cluster, demo, "--no-such-option")
    assert wrong.finish() == 254
    assert "unrecognized arguments: --no-such-option" in wrong.text()


def test_controller_that_is_cancelled_cancels_the_stages_job(cluster: Cluster, demo: Path) -> None:
    launched = control(cluster, demo, "--keep-going")
    launched.wait_for("the stage has begun")
    stage = job_of(cluster, demo, "demo")["JobId"]
    cluster.call("scancel", job_of(cluster, demo, "controller")["JobId"])
    assert launched.finish() != 0
    assert "somebody has cancelled it" in launched.text().splitlines()[-1]
    assert cluster.wait(stage)["JobState"] == "CANCELLED"
    assert len(jobs_of(cluster, demo)) == 2


def test_ctrl_c_cancels_the_controller_and_the_stages_job(cluster: Cluster, demo: Path) -> None:
    launched = control(cluster, demo)
    launched.wait_for("the stage has begun")
    assert launched.stop(signal.SIGINT) == 130
    for name in ("controller", "demo"):
        job = job_of(cluster, demo, name)
        assert cluster.wait(job["JobId"])["JobState"] == "CANCELLED"


def test_controller_begins_again_at_its_time_limit_and_the_stages_job_goes_on(
    cluster: Cluster, demo: Path
) -> None:
    """The real limit: a minute, of which Slurm warns within the first half or so."""
    needs = {"tiny": {"demo": NEEDS, "controller": NEEDS | {"time": "00:01:00"}}}
    YAML(pure=True).dump(needs, demo / "slurm/resources.yaml")
    launched = control(cluster, demo)
    launched.wait_for("the stage has begun")
    stage = job_of(cluster, demo, "demo")["JobId"]
    launched.wait_for(f"rederive: demo: watching job {stage}", timeout_s=150)
    assert "rederive: demo: the controller begins again, and looks for this" in launched.text()
    assert "rederive: controller: stopped before its time limit, and queued" in launched.text()
    let_go(demo)
    assert launched.finish() == 0, launched.text()
    assert job_of(cluster, demo, "controller")["Restarts"] == "1"
    assert job_of(cluster, demo, "demo")["Restarts"] == "0"
    assert (demo / "artifacts/demo/a").read_text(encoding="utf-8") == "1"


def test_controller_of_a_lost_node_finds_the_stages_job_again(cluster: Cluster, demo: Path) -> None:
    """It has a node of its own, and its processes had no time to say anything."""
    needs = {"tiny": {"demo": NEEDS, "controller": NEEDS | {"cpus_per_task": 96}}}
    YAML(pure=True).dump(needs, demo / "slurm/resources.yaml")
    launched = control(cluster, demo)
    launched.wait_for("the stage has begun")
    controller, stage = (job_of(cluster, demo, name) for name in ("controller", "demo"))
    node = controller["NodeList"]
    assert node != stage["NodeList"]
    cluster.fail_node(node)
    try:
        launched.wait_for(f"rederive: demo: watching job {stage['JobId']}")
        let_go(demo)
        assert launched.finish() == 0, launched.text()
    finally:
        cluster.restore_node(node)
    assert f"a node failed: the job starts again without {node}\n" in launched.text()
    assert job_of(cluster, demo, "controller")["Restarts"] == "1"
    assert job_of(cluster, demo, "demo")["Restarts"] == "0"
    assert (demo / "artifacts/demo/a").read_text(encoding="utf-8") == "1"
