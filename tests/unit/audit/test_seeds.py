"""Other seeds: what they are written into, and what is kept of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages._audit.seeds import (
    ALL_TRACKS,
    CORE,
    find_cache,
    read_seed,
    read_seeds,
    record_seeds,
    set_seed,
)
from stages._live.reference import SEEDED
from tests.git import git
from tests.repository import dvc


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Returns the parameters and results of a core graph and of two tracks."""
    files = {
        "params.yaml": {name: {"seed": 0} for name in (*SEEDED, "prompts")},
        "dvc.lock": {"stages": {"grpo": {"outs": [{"md5": "core"}]}}},
        "tracks/a/params.yaml": {"sft": {"first": {}, "second": {"seed": 7}}},
        "tracks/b/params.yaml": {"report": {"report": {"tasks": ["sums"]}}},
        "tracks/a/dvc.lock": {"stages": {"first": {"outs": [{"md5": "one"}]}}},
        "runs/grpo.json": {"commit": "c", "machine": {"cpu": "x"}},
        "runs/report-results-report.json": {"commit": "d", "machine": {"cpu": "y"}},
        "metrics/evaluate/sft.json": {"sums": {"accuracy": 0.5}},
        "metrics/results/evaluate/second.json": {"sums": {"accuracy": 0.75}},
        "metrics/results/seeds/10.json": {"seed": 10, "accuracy": {"sums": {"second": 0.5}}},
        "metrics/results/seeds/2.json": {"seed": 2, "accuracy": {"sums": {"second": 0.25}}},
    }
    for name, value in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            path.write_text(json.dumps(value))
        else:
            YAML().dump(value, path)
    return tmp_path


def read(path: Path) -> object:
    return YAML(typ="safe", pure=True).load(path)


def test_core_s_seeds_are_its_own(root: Path) -> None:
    before = (root / "tracks/a/params.yaml").read_text()
    set_seed(root, 3, CORE)
    seeded = {name: {"seed": 3} for name in SEEDED}
    assert read(root / "params.yaml") == {**seeded, "prompts": {"seed": 0}}
    assert (root / "tracks/a/params.yaml").read_text() == before


def test_tracks_seeds_are_said_in_each_section(root: Path) -> None:
    before = (root / "params.yaml").read_text()
    set_seed(root, 3, ALL_TRACKS)
    sections = {"first": {"seed": 3}, "second": {"seed": 3}}
    assert read(root / "tracks/a/params.yaml") == {"sft": sections}
    assert read(root / "tracks/b/params.yaml") == {"report": {"report": {"tasks": ["sums"]}}}
    assert (root / "params.yaml").read_text() == before


def test_what_is_kept_of_a_run(root: Path) -> None:
    assert read_seed(root, 0) == {
        "seed": 0,
        "commit": "c",
        "machine": {"cpu": "x"},
        "accuracy": {"sums": {"sft": 0.5}},
        "outs": {"grpo": "core"},
    }
    assert read_seed(root, 0, ALL_TRACKS) == {
        "seed": 0,
        "commit": "d",
        "machine": {"cpu": "y"},
        "accuracy": {"sums": {"second": 0.75}},
        "outs": {"a/first": "one"},
    }


def test_recorded_runs_come_by_their_number(root: Path) -> None:
    assert [run["seed"] for run in read_seeds(root, ALL_TRACKS)] == [0, 2, 10]


def test_run_of_before_a_task_is_named_with_its_remedy(root: Path) -> None:
    cell = {"accuracy": 0.75}
    results = root / "metrics/results/evaluate/second.json"
    results.write_text(json.dumps({"sums": cell, "words": cell}))
    message = r"metrics/results/seeds/(10|2)\.json has no words of second, .* seeds --tracks \1`"
    with pytest.raises(ValueError, match=message):
        read_seeds(root, ALL_TRACKS)


def test_recorded_seed_is_not_run_again(root: Path) -> None:
    with pytest.raises(ValueError, match=r"^seed 0 is that of params\.yaml, whose run is recorded"):
        list(record_seeds(root, [1, 0]))


@pytest.mark.parametrize("elsewhere", [False, True])
def test_cache_is_where_dvc_says(tmp_path: Path, *, elsewhere: bool) -> None:
    git(tmp_path, "init", "-q")
    dvc(tmp_path, "init", "-q")
    if elsewhere:
        dvc(tmp_path, "config", "--local", "cache.dir", str(tmp_path / "shared"))
    (tmp_path / "data").write_text("data")
    dvc(tmp_path, "add", "-q", "data")
    cache = find_cache(tmp_path)
    assert cache == str(tmp_path / ("shared" if elsewhere else ".dvc/cache"))
    assert cache == dvc(tmp_path, "cache", "dir").strip()
    (cached,) = Path(cache).glob("files/md5/??/*")
    assert cached.read_text() == "data"
