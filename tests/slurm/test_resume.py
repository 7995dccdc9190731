"""What ends a job before its stage has ended: a time limit, and a node that is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.repository import read
from tests.slurm.launching import Launched, launch
from tests.slurm.pausing import Paused, copy_with_site, digests

if TYPE_CHECKING:
    from pathlib import Path

    from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm


@dataclass(frozen=True)
class Resumed:
    """A launch of sft that has ended, and the step that was saved when its job was ended."""

    launched: Launched
    step: int


@pytest.fixture(scope="module")
def resumed(
    cluster: Cluster, recipe: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Resumed]:
    """Returns two launches, at once: of one the time is over, of the other one the node is lost."""
    # Slurm looks twice a minute, and may warn half a minute early: 25 s after the start at least.
    site = {"options": ["--nodelist=node1"], "signal_before_end_s": 5}
    warned = copy_with_site(recipe, tmp_path_factory.mktemp("warned"), "00:01:00", **site)
    site = {"options": ["--exclude=node1"]}
    lost = copy_with_site(recipe, tmp_path_factory.mktemp("lost"), "00:10:00", **site)
    launches = [launch(cluster, one, "sft") for one in (warned, lost)]
    with ThreadPoolExecutor() as pool:
        in_time, on_node = pool.map(Paused, launches)
    node = launches[1].job()["NodeList"]
    cluster.fail_node(node)
    try:
        in_time.wait_for_term()
        in_time.go_on()
        for launched in launches:
            launched.finish()
    finally:
        cluster.restore_node(node)
    steps = (in_time.step, on_node.step)
    found = [Resumed(launched, step) for launched, step in zip(launches, steps, strict=True)]
    return dict(zip(("warned", "lost"), found, strict=True))


@pytest.mark.parametrize("name", ["warned", "lost"])
def test_stage_goes_on_from_its_checkpoint_to_the_same_bytes(
    resumed: dict[str, Resumed], recipe: Path, name: str
) -> None:
    launched = resumed[name].launched
    assert launched.finish() == 0, launched.text()
    job = launched.job()
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1")
    facts = read(launched.repo, "runs/sft.json")["facts"]
    assert facts["resumed_from_step"] == resumed[name].step == 2
    assert digests(launched.repo, "sft") == digests(recipe, "sft")


def test_warned_job_says_what_happened(resumed: dict[str, Resumed]) -> None:
    shown = resumed["warned"].launched.text()
    assert "rederive: sft: terminated; nothing half-written was kept" in shown
    assert "rederive: sft: stopped before its time limit, and queued again" in shown


def test_job_of_a_lost_node_starts_again_elsewhere_and_stays_away(
    resumed: dict[str, Resumed],
) -> None:
    """And from the node that the site excludes, as before."""
    job, shown = resumed["lost"].launched.job(), resumed["lost"].launched.text()
    before = "node2" if job["NodeList"] == "node3" else "node3"
    assert f"is RUNNING on {before}" in shown
    assert job["ExcNodeList"] == f"node1,{before}"
    assert f"a node failed: the job starts again without {before}" in shown


def test_job_that_may_not_start_again_says_what_to_raise(overdue: dict[str, Launched]) -> None:
    launched = overdue["one start"]
    assert launched.finish() == 143
    assert (launched.job()["JobState"], launched.job()["Restarts"]) == ("FAILED", "0")
    expected = "stopped before its time limit, and max_requeues is 0: raise time in slurm/resources"
    assert expected in launched.text()


def test_job_that_was_not_warned_ends_with_slurms_reason(overdue: dict[str, Launched]) -> None:
    launched = overdue["no warning"]
    assert launched.finish() == 143
    job = launched.job()
    assert job["JobState"] == "TIMEOUT"
    last = launched.text().splitlines()[-1]
    assert f"job {job['JobId']} is TIMEOUT on node1 (TimeLimit)" in last
    assert "raise its time in slurm/resources.yaml" in last
