"""A stage in parts on a real cluster: an array of tasks, and a job that puts the parts together."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.demo import make_demo
from tests.repository import change, read
from tests.slurm.launching import Launched, add_site, jobs_of, launch, let_go, set_needs
from tests.slurm.pausing import copy_with_site, digests

if TYPE_CHECKING:
    from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm

NUM_TASKS = 3
STAGE = """
import os, time

def fill(params, inputs, work, index, num_parts):
    print("part", index + 1, "of", num_parts, flush=True)
    if (work / f"part-{index}").exists():
        print("is there", flush=True)
        return
    BODY
    (work / f"part-{index}").write_text("1")

def run(params, inputs, out, work):
    print("the parts come together", flush=True)
    found = sorted(path.name for path in work.glob("part-*"))
    while found and (work / "hold").exists():
        time.sleep(0.1)
    (out / "a").write_text(" ".join(found))
    return {"demo": {"n": len(found)}}
"""
WAITS = 'while not (work / "go").exists(): time.sleep(0.1)'


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Returns a repository with one stage, which works in parts."""
    repo = tmp_path / "repo"
    make_demo(repo)
    add_site(repo)
    set_needs(repo, "demo", array=NUM_TASKS)
    return repo


def write_parts(repo: Path, body: str) -> None:
    """Writes demo's stage.py, whose parts do this."""
    text = STAGE.replace("BODY", body)
    (repo / "stages/demo/stage.py").write_text(text, encoding="utf-8")


def wait_for_parts(launched: Launched) -> str:
    """Waits until all parts have begun, and returns the array's id."""
    for task in range(1, NUM_TASKS + 1):
        launched.wait_for(f"[{task}] part {task} of {NUM_TASKS}\n")
    return launched.text().partition("submitted job ")[2].split()[0]


def states(cluster: Cluster, repo: Path) -> dict[str, tuple[str, str]]:
    """Returns state and number of restarts by task of the array, and of the job after it by ""."""
    return {
        job.get("ArrayTaskId", ""): (job["JobState"], job["Restarts"])
        for job in jobs_of(cluster, repo)
    }


def result(repo: Path) -> str:
    """Returns what the stage has left."""
    return (repo / "artifacts/demo/a").read_text(encoding="utf-8")


ALL = "part-0 part-1 part-2"
DONE = ("COMPLETED", "0")


def test_tasks_do_their_parts_and_a_job_puts_them_together(cluster: Cluster, demo: Path) -> None:
    write_parts(demo, WAITS)
    launched = launch(cluster, demo, "demo")
    array = wait_for_parts(launched)
    assert f"submitted job {array} with 3 tasks, log work/jobs/demo/parts/\n" in launched.text()
    launched.wait_for(f"rederive: job {array}: 0 pending, 3 running, 0 done\n")
    let_go(demo)
    assert launched.finish() == 0, launched.text()
    assert "\nthe parts come together\n" in launched.text()
    assert result(demo) == ALL
    assert states(cluster, demo) == {"1": DONE, "2": DONE, "3": DONE, "": DONE}
    assert not list(demo.glob("work/demo/*"))
    # Once: what is asked for again is computed again, e.g. by `dvc repro --force`.
    write_parts(demo, "")
    assert launch(cluster, demo, "demo").finish() == 0
    assert launch(cluster, demo, "demo").finish() == 0
    assert len(jobs_of(cluster, demo)) == 3 * (NUM_TASKS + 1)


@pytest.mark.parametrize("how", ["exits", "is killed", "is cancelled"])
def test_task_that_fails_is_named_and_only_its_part_is_done_again(
    cluster: Cluster, demo: Path, how: str
) -> None:
    body = {"exits": "os._exit(7)", "is killed": "os.kill(os.getpid(), 9)"}.get(
        how, "time.sleep(99)"
    )
    write_parts(demo, f'if index == 1 and not (work.parent / "mended").exists(): {body}')
    launched = launch(cluster, demo, "demo")
    array = wait_for_parts(launched)
    if how == "is cancelled":
        launched.wait_for("2 done")
        cluster.call("scancel", f"{array}_2")
    status = launched.finish()
    said, last = launched.text().splitlines()[-2:]
    if how == "is cancelled":
        assert status != 0
        assert f"job {array}_2 is CANCELLED on node1" in said
        assert said.endswith("somebody has cancelled it; run again")
    else:
        assert status == {"exits": 7, "is killed": 137}[how]
        assert f"job {array}_2 is FAILED on node1 (NonZeroExitCode), with status {status}" in said
        assert f"work/jobs/demo/parts/{array}_2.log" in said
    assert f"job {array}_2 is" in launched.text()
    assert "; the other tasks go on\n" in launched.text()
    assert "1 of 3 tasks failed; what is done is kept: run again" in last
    assert not (demo / "artifacts/demo").exists()
    (demo / "work/demo/mended").touch()
    again = launch(cluster, demo, "demo")
    assert again.finish() == 0, again.text()
    assert again.text().count("] is there\n") == 2
    assert "[2] is there" not in again.text()
    assert result(demo) == ALL


def test_killed_launcher_finds_the_array_again_and_then_the_job_after_it(
    cluster: Cluster, demo: Path
) -> None:
    write_parts(demo, WAITS)
    launched = launch(cluster, demo, "demo")
    array = wait_for_parts(launched)
    launched.stop(signal.SIGKILL)
    again = launch(cluster, demo, "demo")
    again.wait_for(f"watching job {array} with 3 tasks")
    (work,) = demo.glob("work/demo/*")
    (work / "hold").touch()
    let_go(demo)
    again.wait_for("the parts come together")
    again.stop(signal.SIGKILL)
    last = launch(cluster, demo, "demo")
    last.wait_for("watching job")
    assert f"watching job {array}" not in last.text()
    (work / "hold").unlink()
    assert last.finish() == 0, last.text()
    assert result(demo) == ALL
    assert states(cluster, demo) == {"1": DONE, "2": DONE, "3": DONE, "": DONE}


def test_array_that_ended_while_nobody_watched_is_not_done_again(
    cluster: Cluster, demo: Path
) -> None:
    write_parts(demo, WAITS)
    launched = launch(cluster, demo, "demo")
    array = wait_for_parts(launched)
    launched.stop(signal.SIGKILL)
    let_go(demo)
    for task in range(1, NUM_TASKS + 1):
        cluster.wait(f"{array}_{task}")
    again = launch(cluster, demo, "demo")
    assert again.finish() == 0, again.text()
    assert f"job {array} has done this while nobody watched it" in again.text()
    assert result(demo) == ALL
    assert len(jobs_of(cluster, demo)) == NUM_TASKS + 1


def test_array_for_other_needs_is_refused_while_it_lives(cluster: Cluster, demo: Path) -> None:
    """One job would do the parts that the tasks do."""
    write_parts(demo, WAITS)
    launched = launch(cluster, demo, "demo")
    array = wait_for_parts(launched)
    launched.stop(signal.SIGKILL)
    set_needs(demo, "demo")
    again = launch(cluster, demo, "demo")
    assert again.finish() == 1
    assert f"job {array} is RUNNING on node1 for demo with other parameters" in again.text()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_cancels_all_tasks(
    cluster: Cluster, demo: Path, number: signal.Signals, status: int
) -> None:
    write_parts(demo, WAITS)
    launched = launch(cluster, demo, "demo")
    array = wait_for_parts(launched)
    assert launched.stop(number) == status
    found = states(cluster, demo)
    assert {task: state for task, (state, _) in found.items()} == dict.fromkeys(
        ("1", "2", "3"), "CANCELLED"
    )
    assert f"stopped; job {array}, which was 0 pending, 3 running, 0 done, is cancelled\n" in (
        launched.text()
    )


def test_warned_task_alone_is_queued_again(cluster: Cluster, demo: Path) -> None:
    """One of the tasks has the array's own id as its job's: by that, all would be queued again."""
    write_parts(demo, WAITS)
    launched = launch(cluster, demo, "demo")
    array = wait_for_parts(launched)
    (task,) = (job["ArrayTaskId"] for job in jobs_of(cluster, demo) if job["JobId"] == array)
    cluster.call("scancel", "--batch", "--signal=USR1", f"{array}_{task}")
    launched.wait_for(f"[{task}] rederive: demo: stopped before its time limit, and queued again\n")
    cluster.wait_until(lambda: launched.text().count(f"[{task}] part") == 2, f"{array}_{task}")
    let_go(demo)
    assert launched.finish() == 0, launched.text()
    expected = dict.fromkeys(("1", "2", "3", ""), DONE) | {task: ("COMPLETED", "1")}
    assert states(cluster, demo) == expected
    assert result(demo) == ALL


def test_task_of_a_lost_node_alone_starts_again_elsewhere(cluster: Cluster, demo: Path) -> None:
    set_needs(demo, "demo", array=NUM_TASKS, cpus_per_task=96)
    write_parts(demo, WAITS)
    launched = launch(cluster, demo, "demo")
    array = wait_for_parts(launched)
    jobs = jobs_of(cluster, demo)
    assert sorted(job["NodeList"] for job in jobs) == ["node1", "node2", "node3"]
    (task,) = (job["ArrayTaskId"] for job in jobs if job["NodeList"] == "node3")
    cluster.fail_node("node3")
    try:
        launched.wait_for(f"a node failed: job {array}_{task} starts again without node3\n")
        let_go(demo)
        assert launched.finish() == 0, launched.text()
    finally:
        cluster.restore_node("node3")
    expected = dict.fromkeys(("1", "2", "3", ""), DONE) | {task: ("COMPLETED", "1")}
    assert states(cluster, demo) == expected
    assert result(demo) == ALL


@pytest.mark.timeout(600)  # with the recipe that it may be the first to ask for
def test_stages_of_the_recipe_leave_the_bytes_of_one_piece(
    cluster: Cluster, recipe: Path, tmp_path: Path
) -> None:
    """40 problems: three shards of generate on two tasks, and as many of an evaluation."""
    clone = copy_with_site(recipe, tmp_path, "00:10:00")
    set_needs(clone, "generate", "evaluate", array=2)
    change(clone, {"evaluate.shard_size": 16})
    cell = ("evaluate", "--model", "sft", "--task", "arithmetic")
    for arguments, name in ((("generate",), "generate"), (cell, "evaluate/sft/arithmetic")):
        launched = launch(cluster, clone, *arguments)
        assert launched.finish(timeout_s=240) == 0, launched.text()
        assert digests(clone, name) == digests(recipe, name)
        facts = read(clone, f"runs/{name.replace('/', '-')}.json")["facts"]
        assert len(facts["parts"]) == 2
    assert len(jobs_of(cluster, clone)) == 2 * 3
