"""Scripts of the recipes' main stages at the example site, to the letter.

To renew the files after a change that is meant:
`python -m tests.golden.recipes.test_recipes_golden`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from stages._launch.render import render
from stages._launch.resources import load_resources, load_server
from stages._launch.site import SlurmSite, load_site

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[2]
MAIN = {
    "grpo-qwen2.5-1.5b": "grpo",
    "openr1-distill-7b": "sft",
    "r1-distill-qwen-32b": "sft",
    "r1-paper": "grpo",
    "r1-zero-qwen2.5-7b": "grpo",
}


def render_all() -> dict[str, str]:
    """Returns the golden scripts by the name of their file."""
    scripts = {}
    for recipe, stage in MAIN.items():
        with TemporaryDirectory() as folder, chdir(folder):
            Path("slurm").symlink_to(ROOT / "slurm")
            shutil.copyfile(ROOT / f"recipes/{recipe}.yaml", "params.yaml")
            site = load_site("example")
            assert isinstance(site, SlurmSite)
            # What depends on the machine.
            python = "/shared/rederive/.venv/bin/python"
            site = replace(site, python=python, work_dir="/shared/rederive")
            needs = load_resources(stage)
            server = load_server(stage, needs)
            script = render(stage, {}, site, needs, None, server)
            scripts[f"{recipe}-{stage}.sh"] = script
    return scripts


@pytest.mark.parametrize("recipe", sorted(MAIN))
def test_script_is_the_golden_file(recipe: str) -> None:
    name = f"{recipe}-{MAIN[recipe]}.sh"
    assert (FOLDER / name).read_text(encoding="utf-8") == render_all()[name]


def test_every_gpu_recipe_has_one() -> None:
    shipped = {path.stem for path in (ROOT / "recipes").glob("*.yaml")} - {"smollm2-cpu"}
    assert shipped == MAIN.keys()
    files = {f"{recipe}-{stage}.sh" for recipe, stage in MAIN.items()}
    assert {path.name for path in FOLDER.glob("*.sh")} == files


@pytest.mark.parametrize("recipe", sorted(MAIN))
def test_script_passes_shellcheck(recipe: str) -> None:
    command = shutil.which("shellcheck")
    if command is None:
        pytest.skip("shellcheck not found: run .ci/install-packages as root")
    call = [command, "--exclude=SC1091", str(FOLDER / f"{recipe}-{MAIN[recipe]}.sh")]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_render_works_right_after_use(tmp_path: Path) -> None:
    """The command itself, with the recipe in force: what a stranger tries first."""
    copied = ("recipes", "slurm", "stages", "containers")
    for name in copied:
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    python = [sys.executable, "-m", "stages"]
    environment = {**os.environ, "R1_SITE": "example"}

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [*python, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stderr, done.returncode) == ("", 0)
        return done.stdout

    call("use", "openr1-distill-7b")
    script = call("render", "sft")
    assert "#SBATCH --gres=gpu:h100:8\n" in script
    assert "#SBATCH --time=3-00:00:00\n" in script
    assert "exec sft" in script


if __name__ == "__main__":
    for file, text in render_all().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
