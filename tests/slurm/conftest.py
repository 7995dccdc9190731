"""One cluster for all tests here, and why they are skipped where there can be none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.demo import make_demo, write_stage
from tests.slurm.cluster import Cluster, find_problem, running_cluster
from tests.slurm.launching import Launched, add_site, launch, set_needs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Yields a cluster of three nodes with eight GPUs each."""
    problem = find_problem()
    if problem:
        pytest.skip(problem)
    with running_cluster(num_nodes=3, num_gpus=8) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _no_jobs_left(cluster: Cluster) -> Iterator[None]:
    """Leaves no job to the next test."""
    yield
    left = cluster.jobs()
    if left:
        cluster.call("scancel", *left)
        for job in left:
            cluster.wait(job)
    cluster.wait_for_nodes()


@pytest.fixture(scope="session")
def overdue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Launched]]:
    """Yields launches of stages that take longer than their minute, by what their site says of it.

    Slurm's limits are whole minutes, and it looks at them twice a minute: hence a cluster aside.
    """
    sites = {"one start": {"max_requeues": 0}, "no warning": {"signal_before_end_s": 0}}
    with running_cluster(num_nodes=1, num_gpus=1) as aside:
        launches = {}
        for name, changes in sites.items():
            repo = tmp_path_factory.mktemp("overdue") / "repo"
            make_demo(repo)
            add_site(repo, **changes)
            set_needs(repo, "demo", time="00:01:00")
            write_stage(repo, "time.sleep(300)")
            launches[name] = launch(aside, repo, "demo")
        yield launches


@pytest.fixture(scope="session", autouse=True)
def _start_what_waits(request: pytest.FixtureRequest, cluster: Cluster) -> None:
    """Starts first what only waits, if a test asks for it: the others run meanwhile."""
    assert cluster.nodes
    if any("overdue" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("overdue")
