"""Runs the recipe with other seeds and keeps what it measured: how much results vary by chance.

Beside a seed's record, a folder has the logs of what was trained: stages/_live/reference.py makes
the bands of them in which further runs are expected.

The problems stay as they are; what is sampled, kept, shuffled and trained changes. The core graph
is run alone, or the tracks are, after the core as it is recorded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from stages._audit.git import git
from stages._audit.published import read_json
from stages._contract.artifacts import write_json
from stages._contract.places import TRACKS, name_of, out_of
from stages._live.reference import SEEDED, list_cells, seeds_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """What is run with other seeds."""

    metrics: Path  # of its report; the seeds' records lie below
    run: str  # the manifest that says for all stages which commit ran, and where
    locks: str  # of its stages, as a pattern
    command: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Returns where the runs with other seeds are recorded."""
        return seeds_of(is_core=self is CORE)


CORE = Graph(metrics=Path("metrics"), run="grpo", locks="dvc.lock", command=("repro",))
ALL_TRACKS = Graph(
    metrics=Path("metrics/results"),
    run="report-results-report",
    locks=f"{TRACKS}/*/dvc.lock",
    command=("repro", "--all-pipelines"),
)


def record_seeds(root: Path, seeds: Iterable[int], graph: Graph = CORE) -> Iterator[Path]:
    """Runs the graph of the repository's commit with each seed, and yields the file it wrote.

    It runs in a clone, which is removed: what you are working on stays as it is. The clone shares
    DVC's cache, in which it finds what does not depend on the seeds.

    Raises:
        ValueError: a run failed, and its own message is above; or a seed is that of params.yaml.
    """
    recorded = read_recorded_seed(root)
    if recorded in (seeds := list(seeds)):
        raise ValueError(
            f"seed {recorded} is that of params.yaml, whose run is recorded already: leave it out"
        )
    with tempfile.TemporaryDirectory(prefix="rederive-seeds-") as folder:
        clone = Path(folder, "clone")
        done = git(root, "clone", "--quiet", str(root.resolve()), str(clone))
        if done.returncode:
            raise ValueError(f"git cannot clone {root}: {done.stderr.strip()}")
        _dvc(clone, "config", "--local", "cache.dir", find_cache(root))
        for seed in seeds:
            set_seed(clone, seed, graph)
            _dvc(clone, *graph.command)
            path = root / graph.folder / f"{seed}.json"
            write_json(path, read_seed(clone, seed, graph))
            keep_logs(clone, path.with_suffix(""), graph)
            yield path


def find_cache(root: Path) -> str:
    """Returns the folder of DVC's cache, which a user may have put elsewhere."""
    from dvc.repo import Repo  # noqa: PLC0415 - takes a second, and others read seeds without it

    with Repo(str(root)) as repo:
        return str(repo.cache.local_cache_dir)


def keep_logs(root: Path, folder: Path, graph: Graph) -> None:
    """Copies the log of each training of the graph to the folder, by the name of its manifest."""
    for stage, cell in list_cells(root):
        if ("track" in cell) == (graph is not CORE):
            folder.mkdir(parents=True, exist_ok=True)
            log = root / out_of(stage, cell) / "log.jsonl"
            shutil.copyfile(log, folder / f"{name_of(stage, cell)}.jsonl")


def set_seed(root: Path, seed: int, graph: Graph) -> None:
    """Writes the seed into the parameters of the graph's stages, and no others."""
    files = [Path("params.yaml")] if graph is CORE else sorted(root.glob(f"{TRACKS}/*/params.yaml"))
    yaml = YAML()
    for file in files:
        stages = yaml.load(root / file)
        for stage in SEEDED:
            if graph is CORE:
                stages[stage]["seed"] = seed
            else:
                for section in stages.get(stage, {}).values():
                    section["seed"] = seed
        yaml.dump(stages, root / file)


def _dvc(clone: Path, *arguments: str) -> None:
    folder = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([folder / "dvc", *arguments], cwd=clone, env=env, check=False)  # noqa: S603
    if done.returncode:
        raise ValueError(f"dvc {' '.join(arguments)} failed in {clone}, with the message above")


def read_seed(root: Path, seed: int, graph: Graph = CORE) -> dict[str, Any]:
    """Returns what a run left: its commit and machine, accuracies and outputs.

    Keys: seed; commit; machine, as in manifests; accuracy, in [0, 1] by task and model; outs, DVC's
    digest by stage, so that a run with this seed can be compared byte for byte.
    """
    run = read_json(root / "runs" / f"{graph.run}.json")
    files = sorted((root / graph.metrics / "evaluate").glob("*.json"))
    cells = {path.stem: read_json(path) for path in files}
    tasks = next(iter(cells.values()))
    outs: dict[str, str] = {}
    for lock in sorted(root.glob(graph.locks)):
        stages = YAML(typ="safe", pure=True).load(lock)["stages"]
        prefix = "" if graph is CORE else f"{lock.parent.name}/"
        outs |= {f"{prefix}{name}": stage["outs"][0]["md5"] for name, stage in stages.items()}
    return {
        "seed": seed,
        "commit": run["commit"],
        "machine": run["machine"],
        "accuracy": {
            task: {model: cell[task]["accuracy"] for model, cell in cells.items()} for task in tasks
        },
        "outs": dict(sorted(outs.items())),
    }


def read_recorded_seed(root: Path) -> int:
    """Returns the seed of params.yaml, whose run is the recorded one."""
    seed: int = YAML(typ="safe", pure=True).load(root / "params.yaml")["grpo"]["seed"]
    return seed


def read_seeds(root: Path, graph: Graph = CORE) -> list[dict[str, Any]]:
    """Returns the recorded runs by seed; the one with the seed of params.yaml comes first.

    Raises:
        ValueError: a run has not tried all models at all tasks that the recorded one has.
    """
    recorded = read_seed(root, read_recorded_seed(root), graph)
    cells = list_cells_of(recorded)
    runs = []
    for path in (root / graph.folder).glob("*.json"):
        runs.append(read_json(path))
        missing = sorted(cells - list_cells_of(runs[-1]))
        if missing:
            option = "" if graph is CORE else " --tracks"
            raise ValueError(
                f"{path.relative_to(root)} has no {' of '.join(missing[0])}, which the recorded "
                f"run has: remove it, or record it anew by `python -m stages seeds{option} "
                f"{path.stem}`"
            )
    return [recorded, *sorted(runs, key=lambda run: int(run["seed"]))]


def list_cells_of(run: dict[str, Any]) -> set[tuple[str, str]]:
    """Returns the tasks that were tried, with each model that tried them."""
    accuracy: dict[str, dict[str, float]] = run["accuracy"]
    return {(task, model) for task, models in accuracy.items() for model in models}
