"""The CPU image on a node's own disk, for two jobs at once: real Slurm, real Apptainer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stages._contract.artifacts import sha256_file
from tests.demo import make_demo, write_stage
from tests.slurm.launching import PASSES, add_image_site, jobs_of, launch, set_needs

if TYPE_CHECKING:
    from tests.slurm.cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.container, pytest.mark.timeout(1500)]
# Where the image lies that the stage runs in, as Apptainer says it inside.
SHOWS = "print('runs in', os.environ['APPTAINER_CONTAINER'], flush=True)\n"


def test_jobs_run_in_the_copy_on_the_nodes_disk(
    cluster: Cluster, image: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    launches = []
    for name in ("a", "b"):
        repo = tmp_path / name / "repo"
        make_demo(repo)
        add_image_site(repo, image, staging=str(disk))
        set_needs(repo, "demo")
        write_stage(repo, SHOWS + PASSES)
        launches.append(launch(cluster, repo, "demo"))
    copy = disk / f"{sha256_file(image)}.sif"
    for launched in launches:
        assert launched.finish(600) == 0, launched.text()
        assert f"runs in {copy}\n" in launched.text()
        (job,) = jobs_of(cluster, launched.repo)
        assert job["JobState"] == "COMPLETED"
    assert list(disk.iterdir()) == [copy]
    inode = copy.stat().st_ino
    os.utime(copy, (0, 0))
    again = launches[0].repo
    shutil.rmtree(again / "artifacts")
    launched = launch(cluster, again, "demo")
    assert launched.finish(600) == 0, launched.text()
    assert f"runs in {copy}\n" in launched.text()
    assert copy.stat().st_ino == inode
    assert copy.stat().st_mtime > 0
