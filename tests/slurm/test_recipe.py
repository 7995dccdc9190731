"""The recipe's own stages on the cluster, on a tiny model: the bytes that they have here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.repository import call, change, dvc, ran, would_run
from tests.slurm.launching import jobs_of
from tests.slurm.pausing import copy_with_site, digests

if TYPE_CHECKING:
    from pathlib import Path

    from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm


@pytest.fixture
def clone(recipe: Path, tmp_path: Path) -> Path:
    """Returns a copy of the repository with a site."""
    return copy_with_site(recipe, tmp_path, "00:10:00")


def use_site(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets what is called from now on run stages on the cluster."""
    for name, value in (cluster.env | {"R1_SITE": "test"}).items():
        monkeypatch.setenv(name, value)


def test_repro_under_a_site_is_the_repro_without_one(
    cluster: Cluster, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The site is in no hash: what ran there has run here, too."""
    before = digests(clone, "filter")
    lock = (clone / "dvc.lock").read_bytes()
    use_site(cluster, monkeypatch)
    shown = dvc(clone, "repro", "--force", "--single-item", "filter")
    monkeypatch.delenv("R1_SITE")
    assert ran(shown) == ["filter"]
    (job,) = jobs_of(cluster, clone)
    assert job["JobState"] == "COMPLETED"
    assert digests(clone, "filter") == before
    assert (clone / "dvc.lock").read_bytes() == lock
    assert would_run(clone) == []


def test_failure_on_the_cluster_fails_the_repro(
    cluster: Cluster, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_site(cluster, monkeypatch)
    change(clone, {"filter.min_rows": 999})
    done = call(clone, "dvc", "repro", "filter")
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("rederive: filter: ")]
    assert "min_rows" in line
    assert "exited with 1" in done.stderr
