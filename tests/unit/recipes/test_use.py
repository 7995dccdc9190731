"""`python -m stages use`: switching params.yaml, and losing nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.__main__ import main
from tests.git import git

ROOT = Path(__file__).parents[3]
OTHER = "openr1-distill-7b"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a repository with the recipes and the default in force, and goes there."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def is_recipe(repo: Path, name: str) -> bool:
    return (repo / "params.yaml").read_bytes() == (repo / f"recipes/{name}.yaml").read_bytes()


def test_switches_there_and_back_and_shows_what_changes(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["use", OTHER]) == 0
    assert is_recipe(repo, OTHER)
    shown = capsys.readouterr().out
    assert shown.startswith(f"--- params.yaml\n+++ recipes/{OTHER}.yaml\n@@ ")
    assert "\n-  recipe: smollm2-cpu " in shown
    assert f"\n+  recipe: {OTHER}\n" in shown
    assert main(["use", "smollm2-cpu"]) == 0  # a recipe is kept in recipes/
    assert is_recipe(repo, "smollm2-cpu")


def test_the_same_recipe_changes_nothing(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (repo / "params.yaml").stat().st_mtime_ns
    assert main(["use", "smollm2-cpu"]) == 0
    assert capsys.readouterr().out == "params.yaml is this recipe already\n"
    assert (repo / "params.yaml").stat().st_mtime_ns == before


def test_changes_that_nothing_holds_are_not_overwritten(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = repo / "params.yaml"
    mine = path.read_text(encoding="utf-8") + "# mine\n"
    path.write_text(mine, encoding="utf-8")
    assert main(["use", OTHER]) == 1
    assert path.read_text(encoding="utf-8") == mine
    error = capsys.readouterr().err
    assert "rederive: params.yaml has changes that no commit and no recipe holds" in error
    assert "`git commit params.yaml`, or copy it to recipes/NAME.yaml" in error
    git(repo, "commit", "-qam", "mine")
    assert main(["use", OTHER]) == 0
    assert is_recipe(repo, OTHER)


def test_without_git_only_recipes_are_overwritten(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(repo / ".git")
    assert main(["use", OTHER]) == 0
    path = repo / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert main(["use", "smollm2-cpu"]) == 1
    assert "they would be lost" in capsys.readouterr().err


def test_a_missing_params_yaml_is_no_obstacle(repo: Path) -> None:
    (repo / "params.yaml").unlink()
    assert main(["use", OTHER]) == 0
    assert is_recipe(repo, OTHER)


def test_unknown_names_are_told_the_nearest(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["use", "openr1-distil-7b"]) == 1
    assert f"no recipes/openr1-distil-7b.yaml: did you mean '{OTHER}'?" in capsys.readouterr().err
    assert main(["plan", "nothing-like-it"]) == 1
    assert "there are grpo-qwen2.5-1.5b, openr1-distill-7b" in capsys.readouterr().err
    assert is_recipe(repo, "smollm2-cpu")


def test_an_invalid_recipe_is_not_put_in_force(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = repo / f"recipes/{OTHER}.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("beta:", "betta:"), encoding="utf-8")
    assert main(["use", OTHER]) == 1
    assert "unknown key 'betta': did you mean 'beta'?" in capsys.readouterr().err
    assert is_recipe(repo, "smollm2-cpu")


def test_without_a_name_the_recipes_are_listed(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["use"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(
        path.stem for path in (repo / "recipes").glob("*.yaml")
    )
    assert all(len(line) > 40 for line in lines)


def test_use_and_plan_load_nothing_heavy() -> None:
    """They start fast: nothing but the standard library and the YAML reader."""
    code = (
        "import sys; from stages.__main__ import main; main(['use']); main(['plan']); "
        "heavy = {'torch', 'transformers', 'dvc', 'numpy', 'jinja2', 'datasets'}; "
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stderr, done.returncode) == ("", 0)
