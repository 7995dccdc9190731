"""Where two runs part: the first stage with another output, and in it the first step and part.

A run is a commit, or the folder of a clone; what is read is in git, so that neither artifacts nor a
model are needed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from stages._audit.git import read_at, read_commit
from stages._audit.published import flatten, is_made, name_run
from stages._contract.manifest import STEPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Entry = dict[str, Any]
# In the order in which a step makes them: what comes first is the cause.
_PARTS = ("traces", "batch", "rollouts", "rewards", "advantages", "weights")


@dataclass(frozen=True, slots=True)
class Run:
    """A run's entries in its lock, by stage in the order of the graph, and a way to its files."""

    name: str
    lock: Mapping[str, Entry]
    read: Callable[[str], str | None]

    def read_rows(self, path: str) -> list[Entry]:
        """Returns the rows of a JSON Lines file, or none if the run has no such file."""
        return [json.loads(line) for line in (self.read(path) or "").splitlines()]

    def read_manifest(self, stage: str) -> Entry:
        """Returns the stage's manifest, or {} if the run has none."""
        text = self.read(f"runs/{name_run(stage)}.json")
        return json.loads(text) if text else {}


@dataclass(frozen=True, slots=True)
class Difference:
    """The first difference: the stage, why it could differ, and where within it."""

    stage: str
    inputs: Sequence[str]
    place: str
    settings: Sequence[str]

    def __str__(self) -> str:
        """Returns what is printed."""
        why = f"reads other {', '.join(self.inputs)}" if self.inputs else "reads the same"
        lines = [f"stage {self.stage}: {why}, and writes something else", f"  {self.place}"]
        return "\n".join([*lines, *(f"  {setting}" for setting in self.settings)])


def open_run(root: Path, name: str) -> Run:
    """Returns the run of a clone's folder or, in the repository at `root`, of a commit.

    Raises:
        ValueError: there is no such folder or commit, or it has no dvc.lock.
    """
    folder = Path(name)
    if (folder / "dvc.lock").is_file():
        return Run(name, _read_lock(folder / "dvc.lock"), lambda path: _read(folder / path))
    commit = read_commit(root, name)
    text = read_at(root, commit, "dvc.lock")
    if text is None:
        raise ValueError(f"{name} has no dvc.lock: it records no run; name another commit")
    return Run(name, _read_lock(text), lambda path: read_at(root, commit, path))


def find_first_difference(a: Run, b: Run) -> Difference | None:
    """Returns where b's outputs first differ from a's in the order of the graph, or None."""
    for stage in [*a.lock, *(stage for stage in b.lock if stage not in a.lock)]:
        old, new = a.lock.get(stage), b.lock.get(stage)
        if old is None or new is None:
            return Difference(stage, [], f"only {(a if old else b).name} has this stage", [])
        if old.get("outs") != new.get("outs"):
            inputs = list(find_changed_inputs(old, new))
            place = find_place(a, b, stage)
            return Difference(stage, inputs, place, _compare_settings(a, b, stage))
    return None


def find_changed_inputs(old: Entry, new: Entry) -> Iterator[str]:
    """Yields what one of a stage's two entries in the locks read and the other did not."""
    yield from (key for key in ("cmd", "params") if old.get(key) != new.get(key))
    before, after = ({dep["path"]: dep for dep in entry["deps"]} for entry in (old, new))
    paths = sorted(before.keys() | after.keys())
    yield from (path for path in paths if before.get(path) != after.get(path))


def find_place(a: Run, b: Run, stage: str) -> str:
    """Returns the first step and part of it in which the stage's outputs differ, in words."""
    if stage.startswith("evaluate@"):
        model, _, task = stage.removeprefix("evaluate@").partition("-")
        path = f"metrics/report/samples/{model}/{task}.jsonl"
    else:
        path = f"runs/{stage}.{STEPS}"
    old, new = a.read_rows(path), b.read_rows(path)
    if not old or not new:
        return f"its steps are not recorded: no {path}"
    names = old[0].get("names", [])
    for step, (before, after) in enumerate(zip(old, new, strict=False)):
        if before != after:
            return f"{path}, step {step}: {_describe(before, after, names)}"
    if len(old) != len(new):
        return f"{path}: {len(old)} steps against {len(new)}"
    return f"{path} is the same: what differs is no step's, but in how the output is written"


def _describe(before: Entry, after: Entry, names: Sequence[str]) -> str:
    """Returns which part of two rows differs first, down to the tensor."""
    keys = before.keys() | after.keys()
    known = [part for part in _PARTS if part in keys]
    others = sorted(keys - {*known, "step", "tensors", "names"})
    part = next(part for part in [*others, *known] if before.get(part) != after.get(part))
    if part != "weights":
        values = [json.dumps(row.get(part), ensure_ascii=False) for row in (before, after)]
        which = f" of {before['id']}" if "id" in before and part != "id" else ""
        return f"{part}{which}, {values[0]} against {values[1]}"
    pairs = zip(names, before["tensors"].split(), after["tensors"].split(), strict=False)
    different = [name for name, old, new in pairs if old != new]
    if not different:
        return "weights"
    return f"weights, first {different[0]} ({len(different)} of {len(names)} tensors differ)"


def _compare_settings(a: Run, b: Run, stage: str) -> list[str]:
    """Returns what else was different when the stage ran: machine, packages, settings."""
    old, new = (flatten("", run.read_manifest(stage)) for run in (a, b))
    asked = ("machine.", "packages.", "python", "facts.settings.")
    return [
        f"{key} {old.get(key)} against {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if key.startswith(asked) and old.get(key) != new.get(key)
    ]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _read_lock(lock: Path | str) -> dict[str, Entry]:
    """Returns the stages of a lock, each after those that it depends on."""
    stages: dict[str, Entry] = YAML(typ="safe", pure=True).load(lock)["stages"]
    outs = {out["path"]: stage for stage in stages for out in stages[stage].get("outs", [])}
    graph = {
        stage: [
            maker
            for path, maker in outs.items()
            if any(is_made(dep["path"], [path]) for dep in stages[stage]["deps"])
        ]
        for stage in sorted(stages)
    }
    return {stage: stages[stage] for stage in TopologicalSorter(graph).static_order()}
