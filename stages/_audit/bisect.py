"""Where two runs part: the first stage with another output, and in it the first step and part.

A run is a commit, or the folder of a clone, with the core graph and the tracks that have run there;
what is read is in git, so that neither artifacts nor a model are needed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stages._audit.git import read_at, read_commit
from stages._audit.locks import LOCK, Entry, list_graphs, read_locks, track_of
from stages._audit.published import flatten, name_command, read_text, split_command
from stages._audit.seeds import ALL_TRACKS, CORE
from stages._contract.manifest import STEPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stages._audit.seeds import Graph

# In the order in which a step makes them: what comes first is the cause.
_PARTS = ("traces", "batch", "rollouts", "rewards", "advantages", "weights")


@dataclass(frozen=True, slots=True)
class Run:
    """A run's entries in its locks, as `read_locks` returns them, and a way to its files."""

    name: str
    lock: Mapping[str, Entry]
    read: Callable[[str], str | None]

    def read_rows(self, path: str) -> list[Entry]:
        """Returns the rows of a JSON Lines file, or none if the run has no such file."""
        return [json.loads(line) for line in (self.read(path) or "").splitlines()]

    def read_manifest(self, stage: str) -> Entry:
        """Returns the stage's manifest, or {} if the run has none."""
        text = self.read(f"runs/{self.name_of(stage)}.json")
        return json.loads(text) if text else {}

    def name_of(self, stage: str) -> str:
        """Returns the stem of the stage's files in runs/, by its address."""
        return name_command(self.lock[stage]["cmd"])

    def keep(self, graph: Graph) -> Run:
        """Returns the run with the core's stages alone, or with the tracks'."""
        kept = {s: e for s, e in self.lock.items() if (track_of(s) is None) == (graph is CORE)}
        return replace(self, lock=kept)


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
    if (folder / LOCK).is_file():
        return Run(name, read_locks(folder), lambda path: read_text(folder / path))
    commit = read_commit(root, name)
    if read_at(root, commit, LOCK) is None:
        raise ValueError(f"{name} has no {LOCK}: it records no run; name another commit")
    return Run(name, read_locks(root, commit), lambda path: read_at(root, commit, path))


def find_first_difference(a: Run, b: Run) -> Difference | None:
    """Returns where b's outputs first differ from a's in the order of the graphs, or None.

    Graphs of which one of them has run nothing are not compared.
    """
    for stage in list_compared(a, b):
        old, new = a.lock.get(stage), b.lock.get(stage)
        if old is None or new is None:
            return Difference(stage, [], f"only {(a if old else b).name} has this stage", [])
        if old.get("outs") != new.get("outs"):
            inputs = list(find_changed_inputs(old, new))
            place = find_place(a, b, stage)
            return Difference(stage, inputs, place, _compare_settings(a, b, stage))
    return None


def list_compared(a: Run, b: Run) -> list[str]:
    """Returns the stages of the graphs that both have run, those that one of them lacks, too."""
    both = {track_of(stage) for stage in a.lock} & {track_of(stage) for stage in b.lock}
    stages = [*a.lock, *(stage for stage in b.lock if stage not in a.lock)]
    return [stage for stage in stages if track_of(stage) in both]


def describe_graphs(a: Run, b: Run) -> Iterator[str]:
    """Yields lines that say which graphs were compared and which were not."""
    stages = list_compared(a, b)
    graphs = list_graphs(stages)
    yield f"compared: {len(stages)} stages of {', '.join(graphs)}"
    for run in (a, b):
        others = [graph for graph in list_graphs(run.lock) if graph not in graphs]
        if others:
            yield f"not compared, since only {run.name} has run it: {', '.join(others)}"


def find_changed_inputs(old: Entry, new: Entry) -> Iterator[str]:
    """Yields what one of a stage's two entries in the locks read and the other did not."""
    yield from (key for key in ("cmd", "params") if old.get(key) != new.get(key))
    before, after = ({dep["path"]: dep for dep in entry["deps"]} for entry in (old, new))
    paths = sorted(before.keys() | after.keys())
    yield from (path for path in paths if before.get(path) != after.get(path))


def find_place(a: Run, b: Run, stage: str) -> str:
    """Returns the first step and part of it in which the stage's outputs differ, in words."""
    kind, cell = split_command(a.lock[stage]["cmd"])
    if kind == "evaluate":
        table = ALL_TRACKS if "track" in cell else CORE
        path = f"{table.metrics}/report/samples/{cell['model']}/{cell['task']}.jsonl"
    else:
        path = f"runs/{a.name_of(stage)}.{STEPS}"
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
