"""The cluster itself does what the launcher relies on, by plain sbatch scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.proc import read_proc
from tests.slurm.cluster import Cluster, running_cluster

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parents[2]

# Says who it is, then waits for whatever comes; bash runs a trap at once only while it waits.
WAITING = """\
#!/bin/bash
trap 'echo got USR1; exit 9' USR1
echo "restart ${SLURM_RESTART_COUNT:-0} on $SLURMD_NODENAME"
sleep 60 & wait
"""


def test_exit_code(cluster: Cluster) -> None:
    job = cluster.submit("#!/bin/sh\nexit 7\n")
    found = cluster.wait(job)
    assert (found["JobState"], found["ExitCode"], found["Reason"]) == (
        "FAILED",
        "7:0",
        "NonZeroExitCode",
    )


def test_tasks_on_two_nodes_see_the_gpus_that_they_asked_for(cluster: Cluster) -> None:
    script = "#!/bin/sh\nsrun sh -c 'echo $SLURM_PROCID $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES'\n"
    job = cluster.submit(script, "--nodes=2", "--ntasks-per-node=1", "--gres=gpu:h100:3")
    assert cluster.wait(job)["JobState"] == "COMPLETED"
    assert sorted(cluster.log(job).splitlines()) == ["0 node1 0,1,2", "1 node2 0,1,2"]


def test_two_jobs_on_a_node_get_different_gpus(cluster: Cluster) -> None:
    script = "#!/bin/sh\necho $CUDA_VISIBLE_DEVICES\nsleep 1\n"
    jobs = [cluster.submit(script, "--nodelist=node1", "--gres=gpu:h100:4") for _ in range(2)]
    for job in jobs:
        cluster.wait(job)
    assert sorted(map(cluster.log, jobs)) == ["0,1,2,3\n", "4,5,6,7\n"]


def test_more_gpus_than_there_are_is_refused(cluster: Cluster) -> None:
    with pytest.raises(AssertionError, match="Requested node configuration is not available"):
        cluster.submit("#!/bin/sh\n", "--gres=gpu:h100:9")


def test_signal_reaches_the_script(cluster: Cluster) -> None:
    job = cluster.submit(WAITING)
    cluster.wait_for_log(job, "restart 0")
    cluster.call("scancel", "--batch", "--signal=USR1", job)
    assert cluster.wait(job)["ExitCode"] == "9:0"
    assert cluster.log(job) == "restart 0 on node1\ngot USR1\n"


def test_requeued_job_starts_again_with_its_id(cluster: Cluster) -> None:
    job = cluster.submit(WAITING)
    cluster.wait_for_log(job, "restart 0")
    cluster.call("scontrol", "requeue", job)
    cluster.wait_for_log(job, "restart 1 on node1")


def test_job_of_a_node_that_fails_starts_again_elsewhere(cluster: Cluster) -> None:
    job = cluster.submit(WAITING)
    cluster.wait_for_log(job, "restart 0 on node1")
    cluster.fail_node("node1")
    try:
        cluster.wait_for_log(job, "restart 1 on node2")
    finally:
        cluster.restore_node("node1")


def test_process_that_has_ended_says_nothing() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        process.kill()
    assert read_proc(f"{process.pid}/status") == ""
    assert f"\nPid:\t{os.getpid()}\n" in read_proc(f"{os.getpid()}/status")


def test_nothing_is_left_of_a_cluster() -> None:
    """Not even of a job that ignores all signals but one."""
    with running_cluster(num_nodes=1, num_gpus=1) as small:
        job = small.submit("#!/bin/bash\ntrap '' TERM INT USR1\necho on\nsrun sleep 60\nsleep 60\n")
        small.wait_for_log(job, "on")
        while len(found := small.processes()) < 9:  # daemons, two steps, script, srun, sleep
            time.sleep(0.1)
    assert os.getpid() not in found
    # What has ended, and its parent has not asked yet, has no program either.
    assert [pid for pid in found if Path(f"/proc/{pid}/exe").exists()] == []
    assert not small.folder.exists()


def test_daemons_end_with_the_process_that_started_them() -> None:
    """However that ends: here it is killed, and cannot do anything about it."""
    script = (
        "import time\n"
        "from tests.slurm.cluster import running_cluster\n"
        "with running_cluster(num_nodes=1, num_gpus=1) as cluster:\n"
        "    print(cluster.folder, *cluster.processes(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder, *pids = process.stdout.readline().split()
        process.kill()
    assert len(pids) >= 3
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/exe").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    shutil.rmtree(folder)
