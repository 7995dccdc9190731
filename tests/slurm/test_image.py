"""Jobs inside the CPU image: the recipe gives the bytes of here, and signals reach a stage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ruamel.yaml import YAML

from tests.demo import make_demo, write_stage
from tests.repository import dvc, ran, read, would_run
from tests.slurm.launching import WAITS, add_image_site, jobs_of, launch, let_go, set_needs
from tests.slurm.pausing import digests

if TYPE_CHECKING:
    from tests.slurm.cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.container, pytest.mark.timeout(1500)]


def test_recipe_in_the_image_is_the_recipe_of_here(
    cluster: Cluster, image: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Path(shutil.copytree(recipe, tmp_path / "clone", symlinks=True))
    add_image_site(clone, image)
    stages = list(YAML(typ="safe").load(clone / "dvc.lock")["stages"])
    set_needs(clone, *{stage.partition("@")[0] for stage in stages})
    needs = YAML(typ="safe").load(clone / "slurm/resources.yaml")
    needs["smollm2-cpu"]["generate"] = needs["smollm2-cpu"]["generate"] | {"array": 2}
    YAML().dump(needs, clone / "slurm/resources.yaml")
    before = {stage: digests(clone, stage) for stage in ("generate", "sft", "grpo")}
    lock = (clone / "dvc.lock").read_bytes()
    with monkeypatch.context() as patch:
        for name, value in (cluster.env | {"R1_SITE": "test"}).items():
            patch.setenv(name, value)
        shown = dvc(clone, "repro", "--force")
    assert ran(shown) == sorted(stages)
    jobs = jobs_of(cluster, clone)
    assert [job["JobState"] for job in jobs] == ["COMPLETED"] * (len(stages) + 2)
    assert {stage: digests(clone, stage) for stage in before} == before
    assert (clone / "dvc.lock").read_bytes() == lock
    wanted = YAML(typ="safe").load(clone / "containers/cpu.lock.yaml")["sif_sha256"]
    for stage in before:
        assert read(clone, f"runs/{stage}.json")["image_sha256"] == wanted
    assert would_run(clone) == []


def test_stage_in_the_image_hears_of_the_time_limit(
    cluster: Cluster, image: Path, tmp_path: Path
) -> None:
    demo = tmp_path / "repo"
    make_demo(demo)
    add_image_site(demo, image)
    set_needs(demo, "demo")
    write_stage(demo, WAITS)
    launched = launch(cluster, demo, "demo")
    launched.wait_for("the stage has begun", timeout_s=120)
    job = launched.job()["JobId"]
    cluster.call("scancel", "--batch", "--signal=USR1", job)
    launched.wait_for("stopped before its time limit, and queued again")
    assert "rederive: demo: terminated; nothing half-written was kept" in launched.text()
    cluster.wait_until(lambda: launched.text().count("the stage has begun") == 2, job)
    let_go(demo)
    assert launched.finish() == 0, launched.text()
    assert launched.job()["Restarts"] == "1"
