"""One cluster for all tests here, and why they are skipped where there can be none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.slurm.cluster import Cluster, find_problem, running_cluster

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
