"""The launcher's dependencies are DVC's own, and their digests notice what DVC's notice."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

from stages._launch.deps import find_changes, hash_deps, key_of, list_deps

ROOT = Path(__file__).parents[3]
STAGES = Repo(str(ROOT)).index.stages


@pytest.mark.parametrize("stage", STAGES, ids=[stage.addressing for stage in STAGES])
def test_deps_are_those_of_dvc(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = stage.cmd.split()
    cell = {word[2:]: words[i + 1] for i, word in enumerate(words) if word.startswith("--")}
    own = {Path(dep.fs_path) for dep in stage.deps if not hasattr(dep, "params")}
    assert {path.absolute() for path in list_deps(words[4], cell)} == own
    assert own


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the current folder: a copy of the repository with what `filter` depends on."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "containers", tmp_path / "containers")
    shutil.copytree(ROOT / "stages", tmp_path / "stages")
    for name in ("artifacts/generate/traces.jsonl", "artifacts/prompts/train.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("artifacts/generate/traces.jsonl", ["artifacts/generate/traces.jsonl"]),
        ("artifacts/generate/README.md", ["artifacts/generate/README.md"]),
        ("stages/filter/verify.py", ["stages/filter/verify.py"]),
        ("stages/filter/new.py", ["stages/filter/new.py"]),
        ("containers/cpu.lock.txt", ["containers/cpu.lock.txt"]),
        ("stages/filter/README.md", []),
        ("stages/filter/__pycache__/verify.cpython-311.pyc", []),
        ("stages/sft/stage.py", []),
        ("stages/_launch/slurm.py", []),
        ("slurm/sites/mine.yaml", []),
    ],
)
def test_changed_file_is_found_where_it_counts(repo: Path, name: str, changes: list[str]) -> None:
    before = hash_deps("filter", {})
    (repo / name).parent.mkdir(parents=True, exist_ok=True)
    with (repo / name).open("a", encoding="utf-8") as file:
        file.write("\n")
    assert find_changes(before, hash_deps("filter", {})) == changes


def test_removed_file_is_a_change(repo: Path) -> None:
    before = hash_deps("filter", {})
    (repo / "stages/filter/card.py").unlink()
    assert find_changes(before, hash_deps("filter", {})) == ["stages/filter/card.py"]


def test_parameters_count_in_the_stages_own_section_by_value(repo: Path) -> None:
    before = hash_deps("filter", {})
    text = (repo / "params.yaml").read_text(encoding="utf-8")
    other = text.replace("num_train_epochs: 1.1", "num_train_epochs: 2.0")
    (repo / "params.yaml").write_text(f"# a comment\n{other}", encoding="utf-8")
    assert find_changes(before, hash_deps("filter", {})) == []
    own = text.replace("max_per_prompt: 4", "max_per_prompt: 5")
    assert own != text
    (repo / "params.yaml").write_text(own, encoding="utf-8")
    assert find_changes(before, hash_deps("filter", {})) == ["params.yaml: filter"]


def test_missing_input_says_what_makes_it(repo: Path) -> None:
    (repo / "artifacts/prompts/train.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"train.jsonl is not there: `dvc repro` makes"):
        hash_deps("filter", {})


@pytest.mark.usefixtures("repo")
def test_cell_that_dvc_has_not_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"dvc.yaml asks for \$\{item.task\}, which is neither"):
        list_deps("evaluate", {"model": "sft"})


@pytest.mark.usefixtures("repo")
def test_key_tells_jobs_apart_that_write_different_results() -> None:
    digests = hash_deps("filter", {})
    key = key_of("filter", {}, digests, "/a")
    assert len(key) == 16
    assert key == key_of("filter", {}, dict(reversed(digests.items())), "/a")
    others = {
        key_of("filter", {}, digests, "/b"),
        key_of("sft", {}, digests, "/a"),
        key_of("filter", {"task": "x"}, digests, "/a"),
        key_of("filter", {}, digests | {"x": "0"}, "/a"),
    }
    assert len(others - {key}) == 4
