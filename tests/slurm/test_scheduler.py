"""What the scheduler forgets, loses or never does, on a real one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.demo import make_demo, write_stage
from tests.slurm.cluster import PARTITION, running_cluster
from tests.slurm.launching import PASSES, WAITS, add_site, jobs_of, launch, let_go, set_needs

if TYPE_CHECKING:
    from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Returns a repository with one stage, which waits, and a site."""
    repo = tmp_path / "repo"
    make_demo(repo)
    add_site(repo)
    set_needs(repo, "demo")
    write_stage(repo, WAITS)
    return repo


def test_job_whose_id_got_lost_is_found_by_its_key(cluster: Cluster, demo: Path) -> None:
    """As when the launcher is killed while it submits, or Slurm's answer does not arrive."""
    launched = launch(cluster, demo, "demo")
    launched.wait_for("the stage has begun")
    launched.stop(signal.SIGKILL)
    record = demo / "work/jobs/demo/job.json"
    content = json.loads(record.read_text(encoding="utf-8"))
    record.write_text(json.dumps(content | {"job": None}), encoding="utf-8")
    again = launch(cluster, demo, "demo")
    again.wait_for(f"watching job {content['job']}")
    let_go(demo)
    assert again.finish() == 0, again.text()
    assert [job["JobId"] for job in jobs_of(cluster, demo)] == [content["job"]]


def test_result_of_a_job_that_ended_while_nobody_watched_is_taken(
    cluster: Cluster, demo: Path
) -> None:
    """As after a night in which the login node was restarted; DVC removes outputs before a run."""
    launched = launch(cluster, demo, "demo")
    launched.wait_for("the stage has begun")
    launched.stop(signal.SIGKILL)
    let_go(demo)
    (job,) = jobs_of(cluster, demo)
    cluster.wait(job["JobId"])
    manifest = (demo / "runs/demo.json").read_text(encoding="utf-8")
    for name in ("artifacts", "metrics", "runs"):
        shutil.rmtree(demo / name)
    again = launch(cluster, demo, "demo")
    assert again.finish() == 0, again.text()
    assert f"job {job['JobId']} has done this while nobody watched it" in again.text()
    assert len(jobs_of(cluster, demo)) == 1
    assert (demo / "artifacts/demo/a").read_text(encoding="utf-8") == "1"
    assert (demo / "metrics/demo.json").read_text(encoding="utf-8") == '{\n "n": 3\n}\n'
    assert (demo / "runs/demo.json").read_text(encoding="utf-8") == manifest
    # Once: what is asked for again is computed again, e.g. by `dvc repro --force`.
    write_stage(demo, WAITS.replace("while not", "while False and not"))
    assert launch(cluster, demo, "demo").finish() == 0
    assert launch(cluster, demo, "demo").finish() == 0
    assert len(jobs_of(cluster, demo)) == 3
    assert list(demo.glob("work/jobs/demo/*.kept")) == []


def test_result_for_other_data_is_not_taken(cluster: Cluster, demo: Path) -> None:
    launched = launch(cluster, demo, "demo")
    launched.wait_for("the stage has begun")
    launched.stop(signal.SIGKILL)
    let_go(demo)
    (job,) = jobs_of(cluster, demo)
    cluster.wait(job["JobId"])
    write_stage(demo, PASSES.replace('"1"', '"2"'))
    assert launch(cluster, demo, "demo").finish() == 0
    assert len(jobs_of(cluster, demo)) == 2
    assert (demo / "artifacts/demo/a").read_text(encoding="utf-8") == "2"


def test_job_that_would_wait_for_ever_is_cancelled_with_the_reason(
    cluster: Cluster, demo: Path
) -> None:
    others = cluster.submit("#!/bin/sh\nsleep 60\n", "--nodes=3", "--exclusive")
    cluster.wait(others, "RUNNING")
    launched = launch(cluster, demo, "demo")
    launched.wait_for("PENDING")
    cluster.call("scontrol", "update", f"PartitionName={PARTITION}", "MaxTime=00:01:00")
    try:
        assert launched.finish() == 1
    finally:
        cluster.call("scontrol", "update", f"PartitionName={PARTITION}", "MaxTime=2-00:00:00")
    (job,) = jobs_of(cluster, demo)
    assert job["JobState"] == "CANCELLED"
    assert launched.text().splitlines()[-1] == (
        f"rederive: demo: job {job['JobId']} would wait for ever and is cancelled: it was PENDING "
        "(PartitionTimeLimit): see the site's file and slurm/resources.yaml"
    )


def test_second_ctrl_c_does_not_wait_for_the_jobs_end(cluster: Cluster, demo: Path) -> None:
    write_stage(demo, "import signal\nsignal.signal(15, signal.SIG_IGN)\n" + WAITS)
    launched = launch(cluster, demo, "demo")
    launched.wait_for("the stage has begun")
    for _ in range(2):
        launched.process.send_signal(signal.SIGINT)
        launched.wait_for("COMPLETING" if launched.process.poll() is None else "")
    assert launched.finish() == 130
    (job,) = jobs_of(cluster, demo)
    assert launched.text().splitlines()[-1] == (
        f"rederive: demo: stopped; job {job['JobId']}, which was RUNNING on node1, was told to "
        "end, and may still run"
    )


def test_status_of_a_job_that_slurm_has_forgotten_is_in_its_file(demo: Path) -> None:
    with running_cluster(num_nodes=1, num_gpus=1) as cluster:
        launched = launch(cluster, demo, "demo")
        launched.wait_for("the stage has begun")
        scheduler = cluster.daemons["slurmctld"]
        scheduler.terminate()
        scheduler.wait()
        launched.wait_for("asking again")
        let_go(demo)
        deadline = time.monotonic() + 30
        while not (demo / "work/jobs/demo/1.0.status").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        cluster.start("slurmctld", "slurmctld", "-c", "-D")  # without what it knew
        assert launched.finish() == 0, launched.text()
        assert jobs_of(cluster, demo) == []
    assert (demo / "artifacts/demo/a").read_text(encoding="utf-8") == "1"


def test_options_of_the_users_shell_do_not_reach_the_job(cluster: Cluster, demo: Path) -> None:
    """SBATCH_PARTITION and its like overrule a script, and SLURM_* of another job contradict it."""
    write_stage(demo, "print(sorted(os.environ))\n" + PASSES)
    env = {**os.environ, **cluster.env, "R1_SITE": "test", "MINE": "1"}
    env |= {"SBATCH_PARTITION": "nowhere", "SLURM_MEM_PER_CPU": "1", "SLURM_MEM_PER_NODE": "2"}
    command = [sys.executable, "-m", "stages", "run", "demo"]
    done = subprocess.run(
        command, cwd=demo, env=env, text=True, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "'SLURM_JOB_ID'" in done.stdout
    assert "'MINE'" not in done.stdout
    assert "'R1_SITE'" not in done.stdout
    (demo / "artifacts/demo/a").unlink()
    add_site(demo, pass_environment=["MINE"])
    done = subprocess.run(
        command, cwd=demo, env=env, text=True, capture_output=True, check=False, timeout=60
    )
    assert "'MINE'" in done.stdout


@pytest.mark.parametrize("name", ["a b", "a#b", "a;touch pwned", "$(touch pwned)", "a&b|c"])
def test_repository_may_have_any_name_that_slurm_reads(
    cluster: Cluster, tmp_path: Path, name: str
) -> None:
    repo = tmp_path / name
    make_demo(repo)
    add_site(repo, account="$(touch pwned);touch pwned #")
    set_needs(repo, "demo")
    write_stage(repo, PASSES)
    launched = launch(cluster, repo, "demo")
    assert launched.finish() == 0, launched.text()
    assert (repo / "artifacts/demo/a").exists()
    assert list(tmp_path.rglob("pwned*")) == []
    (job,) = jobs_of(cluster, repo)
    assert job["Account"].startswith("$(touch")
