"""The recipe run again in a clean clone, as an auditor does: the same bytes, or another seed's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.repository import call, change, dvc, read

pytestmark = pytest.mark.pipeline


def test_seeds_run_in_a_clone_and_change_what_depends_on_them(recipe: Path) -> None:
    refused = call(recipe, "python", "-m", "stages", "seeds", "1", "0")
    assert refused.returncode == 1
    assert refused.stderr.startswith("rederive: seed 0 is that of params.yaml")
    assert not (recipe / "metrics/seeds").exists()
    done = call(recipe, "python", "-m", "stages", "seeds", "1")
    assert done.returncode == 0, done.stderr
    lock = YAML(typ="safe").load(recipe / "dvc.lock")["stages"]
    recorded = {stage: entry["outs"][0]["md5"] for stage, entry in lock.items()}
    other = read(recipe, "metrics/seeds/1.json")
    shutil.rmtree(recipe / "metrics/seeds")
    assert other["outs"].keys() == recorded.keys()
    changed = {stage for stage, digest in other["outs"].items() if digest != recorded[stage]}
    assert {"generate", "filter", "sft", "grpo"} <= changed
    assert not {"fetch", "prompts", "evaluate@base-arithmetic"} & changed
    assert other["accuracy"]["arithmetic"].keys() == {"base", "sft", "grpo"}
    base = read(recipe, "metrics/evaluate/base.json")["arithmetic"]["accuracy"]
    assert other["accuracy"]["arithmetic"]["base"] == base


def test_audit_of_a_rebuilt_clone(recipe: Path, tmp_path: Path) -> None:
    """The same recipe, and one that is not: with another learning rate."""
    clone = tmp_path / "clone"
    shutil.copytree(recipe, clone)
    dvc(clone, "repro", "--force", "--single-item", "grpo")
    done = call(recipe, "python", "-m", "stages", "audit", str(clone))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    others = "fetch, prompts, evaluate@base-arithmetic, generate, filter, sft, "
    assert lines[-1] == (
        "L1 holds: of 10 stages 1 ran again, and their outputs have the same bytes; not run again: "
        f"{others}evaluate@sft-arithmetic, evaluate@grpo-arithmetic, report."
    )
    assert [line.split()[1] for line in lines if line.endswith("| same |")] == ["grpo"]
    change(clone, {"grpo.learning_rate": 2e-5})
    dvc(clone, "repro", "grpo")
    done = call(recipe, "python", "-m", "stages", "audit", str(clone))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{clone} ran another recipe: grpo read other params" in line
