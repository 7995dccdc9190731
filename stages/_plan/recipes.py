"""The recipes: complete params.yaml files, one of which params.yaml is a copy of."""

from __future__ import annotations

import difflib
import subprocess
from pathlib import Path

from stages._contract.artifacts import write_whole
from stages._contract.params import load_all
from stages._contract.run import PARAMS

RECIPES = Path("recipes")


def list_recipes() -> dict[str, str]:
    """Returns each recipe's first line by its name, sorted."""
    return {path.stem: _title(path) for path in sorted(RECIPES.glob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """Returns the recipe's file. Raises ValueError naming the nearest, if there is none."""
    names = [path.stem for path in sorted(RECIPES.glob("*.yaml"))]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names) or 'none'}"
        raise ValueError(f"there is no {RECIPES / name}.yaml: {hint}")
    return RECIPES / f"{name}.yaml"


def show_change(name: str) -> str:
    """Returns what would change in params.yaml with the recipe, as a unified diff; '' for nothing.

    Raises:
        ValueError: there is no such recipe.
    """
    path = find_recipe(name)
    before, after = (_read(file).splitlines(keepends=True) for file in (PARAMS, path))
    return "".join(difflib.unified_diff(before, after, str(PARAMS), str(path)))


def switch_to(name: str) -> None:
    """Makes params.yaml the recipe, whole or not at all.

    Raises:
        ValueError: there is no such recipe, it is not valid, or params.yaml holds what nothing else
            does: neither a recipe nor the last commit.
    """
    path = find_recipe(name)
    load_all(path)
    _require_kept_elsewhere()
    with write_whole(PARAMS) as file:
        file.write(_read(path))


def _require_kept_elsewhere() -> None:
    if not PARAMS.exists():
        return
    content = PARAMS.read_bytes()
    if any(content == path.read_bytes() for path in RECIPES.glob("*.yaml")):
        return
    command = ["git", "show", f"HEAD:./{PARAMS}"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    except FileNotFoundError:
        done = None
    if done is None or done.returncode or done.stdout != content:
        raise ValueError(
            f"{PARAMS} has changes that no commit and no recipe holds, and they would be lost: "
            f"`git commit {PARAMS}`, or copy it to {RECIPES}/NAME.yaml"
        )


def _title(path: Path) -> str:
    first = _read(path).partition("\n")[0]
    return first.removeprefix("#").strip()


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
