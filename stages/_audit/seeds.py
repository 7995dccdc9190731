"""Runs the recipe with other seeds and keeps what it measured: how much results vary by chance.

The problems stay as they are; what is sampled, kept, shuffled and trained changes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from stages._audit.git import git
from stages._audit.published import read_json, read_models, read_run
from stages._contract.artifacts import write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SEEDED = ("generate", "filter", "sft", "grpo")
FOLDER = Path("metrics/seeds")


def record_seeds(root: Path, seeds: Iterable[int]) -> Iterator[Path]:
    """Runs the recipe of the repository's commit with each seed, and yields the file it wrote.

    It runs in a clone, which is removed: what you are working on stays as it is.

    Raises:
        ValueError: a run failed; its own message is above.
    """
    with tempfile.TemporaryDirectory(prefix="rederive-seeds-") as folder:
        clone = Path(folder, "clone")
        done = git(root, "clone", "--quiet", str(root.resolve()), str(clone))
        if done.returncode:
            raise ValueError(f"git cannot clone {root}: {done.stderr.strip()}")
        for seed in seeds:
            _run(clone, seed)
            path = root / FOLDER / f"{seed}.json"
            write_json(path, read_seed(clone, seed))
            yield path


def _run(clone: Path, seed: int) -> None:
    yaml = YAML()
    sections = yaml.load(clone / "params.yaml")
    for stage in SEEDED:
        sections[stage]["seed"] = seed
    yaml.dump(sections, clone / "params.yaml")
    folder = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([folder / "dvc", "repro"], cwd=clone, env=env, check=False)  # noqa: S603
    if done.returncode:
        raise ValueError(f"the recipe failed with seed {seed}: {clone} had the message above")


def read_seed(root: Path, seed: int) -> dict[str, Any]:
    """Returns what a run left: its commit and machine, accuracies and outputs.

    Keys: seed; commit; machine, as in manifests; accuracy, in [0, 1] by task and model; outs, DVC's
    digest by stage, so that a run with this seed can be compared byte for byte.
    """
    run = read_run(root, "grpo")
    lock = YAML(typ="safe", pure=True).load(root / "dvc.lock")["stages"]
    models = read_models(root)
    cells = {model: read_json(root / "metrics/evaluate" / f"{model}.json") for model in models}
    return {
        "seed": seed,
        "commit": run["commit"],
        "machine": run["machine"],
        "accuracy": {
            task: {model: cells[model][task]["accuracy"] for model in models}
            for task in cells[models[0]]
        },
        "outs": {stage: lock[stage]["outs"][0]["md5"] for stage in sorted(lock)},
    }


def read_seeds(root: Path) -> list[dict[str, Any]]:
    """Returns the recorded runs by seed; the one with the seed of params.yaml comes first."""
    seed = YAML(typ="safe", pure=True).load(root / "params.yaml")["grpo"]["seed"]
    others = [read_json(path) for path in (root / FOLDER).glob("*.json")]
    return [read_seed(root, seed), *sorted(others, key=lambda run: int(run["seed"]))]
