"""The launcher on a real cluster: the real contract, and one small stage that waits and fails."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.demo import VALUES, make_demo, write_stage
from tests.slurm.launching import (
    PASSES,
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
    """Returns a repository with one stage and a site."""
    repo = tmp_path / "repo"
    make_demo(repo)
    add_site(repo)
    set_needs(repo, "demo")
    return repo


def test_stage_runs_as_a_job_and_leaves_what_it_leaves_here(cluster: Cluster, demo: Path) -> None:
    write_stage(demo, "print('node', os.environ['SLURMD_NODENAME'])\n" + PASSES)
    launched = launch(cluster, demo, "demo")
    assert launched.finish() == 0, launched.text()
    assert "node node1" in launched.text()
    (job,) = jobs_of(cluster, demo)
    assert job["JobState"] == "COMPLETED"
    assert (demo / "artifacts/demo/a").read_text() == "1"
    assert (demo / "metrics/demo.json").read_text() == '{\n "n": 3\n}\n'
    assert (demo / "runs/demo.json").exists()


def test_output_is_shown_while_the_job_runs(cluster: Cluster, demo: Path) -> None:
    write_stage(demo, WAITS)
    launched = launch(cluster, demo, "demo")
    launched.wait_for("the stage has begun")
    let_go(demo)
    assert launched.finish() == 0
    assert launched.text().count("the stage has begun") == 1


def test_users_mistake_is_the_line_that_it_is_here(cluster: Cluster, demo: Path) -> None:
    write_stage(demo, 'raise ValueError("demo.size is too small")')
    launched = launch(cluster, demo, "demo")
    assert launched.finish() == 1
    assert "rederive: demo: demo.size is too small\n" in launched.text()
    assert "Traceback" not in launched.text()
    (job,) = jobs_of(cluster, demo)
    assert (job["JobState"], job["ExitCode"]) == ("FAILED", "1:0")


@pytest.mark.parametrize(
    ("body", "status"),
    [("os._exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)],
    ids=["exit", "killed"],
)
def test_exit_code_is_the_jobs(cluster: Cluster, demo: Path, body: str, status: int) -> None:
    write_stage(demo, body)
    launched = launch(cluster, demo, "demo")
    assert launched.finish() == status
    (job,) = jobs_of(cluster, demo)
    assert job["JobId"] in launched.text().splitlines()[-1]
    assert str(status) in launched.text().splitlines()[-1]
    assert not (demo / "artifacts/demo").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_cancels_the_job(
    cluster: Cluster, demo: Path, number: signal.Signals, status: int
) -> None:
    write_stage(demo, WAITS)
    launched = launch(cluster, demo, "demo")
    launched.wait_for("the stage has begun")
    assert launched.stop(number) == status
    (job,) = jobs_of(cluster, demo)
    assert cluster.wait(job["JobId"])["JobState"] == "CANCELLED"
    assert "Traceback" not in launched.text()
    assert list(demo.glob("artifacts/*")) == []


def test_killed_launcher_finds_its_job_again(cluster: Cluster, demo: Path) -> None:
    write_stage(demo, WAITS)
    launched = launch(cluster, demo, "demo")
    launched.wait_for("the stage has begun")
    launched.stop(signal.SIGKILL)
    again = launch(cluster, demo, "demo")
    (job,) = jobs_of(cluster, demo)
    again.wait_for(job["JobId"])
    assert job["JobState"] == "RUNNING"
    let_go(demo)
    assert again.finish() == 0, again.text()
    assert [job["JobState"] for job in jobs_of(cluster, demo)] == ["COMPLETED"]
    assert (demo / "artifacts/demo/a").exists()


def test_other_params_are_refused_while_the_job_runs(cluster: Cluster, demo: Path) -> None:
    """What a killed launcher left running is not mistaken for what is asked now."""
    write_stage(demo, WAITS)
    launched = launch(cluster, demo, "demo")
    launched.wait_for("the stage has begun")
    launched.stop(signal.SIGKILL)
    (demo / "params.yaml").write_text(VALUES.replace("3", "4"))
    again = launch(cluster, demo, "demo")
    assert again.finish() == 1
    (job,) = jobs_of(cluster, demo)
    (line,) = again.text().splitlines()
    assert f"job {job['JobId']} is RUNNING on node1 for demo with other parameters" in line
    assert f"`scancel {job['JobId']}`" in line


def test_input_that_changes_meanwhile_is_an_error(cluster: Cluster, demo: Path) -> None:
    write_stage(demo, WAITS)
    launched = launch(cluster, demo, "demo")
    launched.wait_for("the stage has begun")
    (demo / "data.txt").write_text("y")
    let_go(demo)
    assert launched.finish() == 1
    assert "data.txt" in launched.text().splitlines()[-1]
    assert list(demo.glob("work/jobs/demo/*.kept")) == [], "it would be taken with the old data"


def test_job_that_waits_says_why_and_goes_with_ctrl_c(cluster: Cluster, demo: Path) -> None:
    write_stage(demo, PASSES)
    others = cluster.submit("#!/bin/sh\nsleep 60\n", "--nodes=3", "--gres=gpu:h100:8")
    cluster.wait(others, "RUNNING")
    set_needs(demo, "demo", gpus_per_node=8)
    launched = launch(cluster, demo, "demo")
    launched.wait_for("Resources")
    assert launched.stop(signal.SIGINT) == 130
    (job,) = jobs_of(cluster, demo)
    assert job["JobState"] == "CANCELLED"
    assert cluster.jobs() == [others]


def test_request_that_no_node_meets_is_refused_with_slurms_reason(
    cluster: Cluster, demo: Path
) -> None:
    set_needs(demo, "demo", gpus_per_node=9)
    write_stage(demo, PASSES)
    launched = launch(cluster, demo, "demo")
    assert launched.finish() == 1
    (line,) = launched.text().splitlines()
    assert "Requested node configuration is not available" in line
    assert cluster.jobs() == []


def test_gpus_of_the_job_are_those_that_were_asked_for(cluster: Cluster, demo: Path) -> None:
    set_needs(demo, "demo", gpus_per_node=3)
    write_stage(demo, "print('gpus', os.environ['CUDA_VISIBLE_DEVICES'])\n" + PASSES)
    launched = launch(cluster, demo, "demo")
    assert launched.finish() == 0, launched.text()
    assert "gpus 0,1,2" in launched.text()


def test_preflight_stops_a_job_without_its_gpus(cluster: Cluster, demo: Path) -> None:
    """As on a site whose flag for GPUs is not the one that its Slurm reads."""
    set_needs(demo, "demo", gpus_per_node=3)
    add_site(demo, gpu_flag="none")
    write_stage(demo, PASSES)
    launched = launch(cluster, demo, "demo")
    assert launched.finish() == 1
    assert "gpus_per_node is 3, and" in launched.text()


def test_scheduler_that_is_restarted_meanwhile_changes_nothing(
    cluster: Cluster, demo: Path
) -> None:
    write_stage(demo, WAITS)
    launched = launch(cluster, demo, "demo")
    launched.wait_for("the stage has begun")
    cluster.stop_controller()
    try:
        launched.wait_for("asking again", timeout_s=120)
    finally:
        cluster.start("slurmctld", "slurmctld", "-D")
    let_go(demo)
    assert launched.finish() == 0, launched.text()
    (job,) = jobs_of(cluster, demo)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "0")


def test_job_that_somebody_cancels_is_an_error(cluster: Cluster, demo: Path) -> None:
    write_stage(demo, WAITS)
    launched = launch(cluster, demo, "demo")
    launched.wait_for("the stage has begun")
    (job,) = jobs_of(cluster, demo)
    cluster.call("scancel", job["JobId"])
    assert launched.finish() != 0
    last = launched.text().splitlines()[-1]
    assert f"job {job['JobId']} is CANCELLED on node1" in last
    assert "somebody has cancelled it" in last


def test_ctrl_c_on_dvc_cancels_the_job(cluster: Cluster, demo: Path) -> None:
    """A terminal sends it to DVC and to the launcher at once."""
    write_stage(demo, WAITS)
    dvc = str(Path(sys.executable).with_name("dvc"))
    subprocess.run([dvc, "init", "--no-scm", "--quiet"], cwd=demo, check=True)
    shown = demo.parent / "shown"
    path = f"{Path(dvc).parent}:{cluster.env['PATH']}"
    with shown.open("wb") as file:
        process = subprocess.Popen(
            [dvc, "repro"],
            cwd=demo,
            env=cluster.env | {"R1_SITE": "test", "PATH": path},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    cluster.users.append(process)
    launched = Launched(cluster, demo, process, shown)
    launched.wait_for("the stage has begun")
    os.killpg(process.pid, signal.SIGINT)
    assert launched.finish() != 0
    (job,) = jobs_of(cluster, demo)
    assert job["JobState"] == "CANCELLED"
    # DVC's shell hands on the launcher's status, or dies of the same signal first.
    assert re.search(r"demo: stopped; job \d+, .*, is cancelled\n", launched.text())
    assert re.search(r"exited with (130|-2)\n", launched.text())
    assert not (demo / "artifacts/demo").exists()
