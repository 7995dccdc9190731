"""The whole recipe on the cluster, each stage a job inside the CPU image: the bytes of here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ruamel.yaml import YAML

from tests.pipeline.repository import dvc, ran, read, would_run
from tests.slurm.launching import add_site, jobs_of, set_needs
from tests.slurm.training import digests

if TYPE_CHECKING:
    from tests.slurm.cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.container, pytest.mark.timeout(1500)]


def test_recipe_in_the_image_is_the_recipe_of_here(
    cluster: Cluster, image: Path, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Path(shutil.copytree(repo, tmp_path / "clone", symlinks=True))
    add_site(clone, images=str(image.parent), python="python")
    stages = list(YAML(typ="safe").load(clone / "dvc.lock")["stages"])
    set_needs(clone, *{stage.partition("@")[0] for stage in stages})
    before = {stage: digests(clone, stage) for stage in ("generate", "sft", "grpo")}
    lock = (clone / "dvc.lock").read_bytes()
    with monkeypatch.context() as patch:
        for name, value in (cluster.env | {"R1_SITE": "test"}).items():
            patch.setenv(name, value)
        shown = dvc(clone, "repro", "--force")
    assert ran(shown) == sorted(stages)
    jobs = jobs_of(cluster, clone)
    assert [job["JobState"] for job in jobs] == ["COMPLETED"] * len(stages)
    assert {stage: digests(clone, stage) for stage in before} == before
    assert (clone / "dvc.lock").read_bytes() == lock
    wanted = YAML(typ="safe").load(clone / "containers/cpu.lock.yaml")["sif_sha256"]
    for stage in before:
        assert read(clone, f"runs/{stage}.json")["image_sha256"] == wanted
    assert would_run(clone) == []
