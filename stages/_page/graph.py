"""The graphs as DVC reads them: what each stage would do now, and what it did when it ran."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from ruamel.yaml import YAML

from stages._audit.bisect import find_changed_inputs
from stages._audit.git import read_at
from stages._audit.published import flatten, name_command, read_json, split_command
from stages._audit.verify import find_changes
from stages._contract.places import TRACKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import dvc.stage

CORE = "core"
# What `dvc repro` would do with a stage, and how the page says it.
CURRENT, CHANGED, BEHIND, NEVER = "up to date", "changed", "waits for a changed one", "never run"
_MAX_VALUES = 6  # of parameters that a stage's reasons name


@dataclass(frozen=True, slots=True)
class Out:
    """A file or folder that a stage writes; size in bytes, as locked."""

    path: str
    num_bytes: int | None
    is_here: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a graph, or one cell of its matrix."""

    address: str
    graph: str  # CORE, or the track
    name: str
    kind: str  # which of stages/ it runs
    run: str  # the stem of its files in runs/
    state: str
    reasons: tuple[str, ...]  # why it is CHANGED
    again: tuple[str, ...] | None  # what it read otherwise than in the revision; None: the same run
    outs: tuple[Out, ...]
    needs: tuple[str, ...]  # addresses
    manifest: dict[str, Any] | None

    @property
    def is_here(self) -> bool:
        """Returns whether all that it writes is on the disk."""
        return all(out.is_here for out in self.outs)


@dataclass(frozen=True, slots=True)
class Graph:
    """All stages, by DVC's address, each after those that it needs."""

    stages: dict[str, Stage]
    revision: str  # with whose locks they are compared
    cache: Path  # DVC's folder of files by their md5

    def of(self, name: str) -> list[Stage]:
        """Returns the stages of the core or of a track."""
        return [stage for stage in self.stages.values() if stage.graph == name]

    @property
    def names(self) -> list[str]:
        """Returns the core and the tracks, in the order in which they can run."""
        return list(dict.fromkeys([CORE, *(stage.graph for stage in self.stages.values())]))


def read_graph(root: Path, revision: str) -> Graph:
    """Returns the graphs of dvc.yaml and of the tracks.

    Args:
        root: the repository's folder.
        revision: a commit of git's; a stage whose lock is another there has run again since.
    """
    with Repo(str(root)) as repo:
        index = repo.index
        made = {out.fs_path: out.hash_info for stage in index.stages for out in stage.outs}
        found = {_address(root, stage): stage for stage in index.stages}
        needs = {
            address: tuple(sorted(_address(root, other) for other in index.graph[stage]))
            for address, stage in found.items()
        }
        locks = {
            path: _Locks(root, path, revision)
            for path in {Path(stage.path).with_name("dvc.lock") for stage in index.stages}
        }
        stages: dict[str, Stage] = {}
        for address in _sort(needs):
            stage = found[address]
            lock = locks[Path(stage.path).with_name("dvc.lock")]
            stages[address] = _read_stage(root, stage, made, lock, needs, stages)
        return Graph(stages, revision, Path(repo.cache.local.path))


def _address(root: Path, stage: dvc.stage.Stage) -> str:
    """Returns DVC's address of the stage as it is at the repository's top, wherever this runs."""
    path = Path(stage.path).relative_to(root.resolve()).as_posix()
    name: str = stage.name
    return name if path == "dvc.yaml" else f"{path}:{name}"


class _Locks:
    """A graph's lock as it is, and as it was in the revision."""

    def __init__(self, root: Path, path: Path, revision: str) -> None:
        yaml = YAML(typ="safe", pure=True)
        name = path.relative_to(root.resolve()).as_posix()
        texts = [path.read_text("utf-8") if path.is_file() else None, read_at(root, revision, name)]
        self.now, self.before = (yaml.load(text)["stages"] if text else {} for text in texts)

    def find_again(self, name: str) -> tuple[str, ...] | None:
        """Returns what the stage read otherwise than in the revision; None: it has not run."""
        now, before = self.now.get(name), self.before.get(name)
        if now is None or now == before:
            return None
        if before is None:
            return ("new",)
        return tuple(find_changed_inputs(before, now)) or ("nothing: the same inputs",)


def _read_stage(
    root: Path,
    stage: dvc.stage.Stage,
    made: Mapping[str, Any],
    lock: _Locks,
    needs: Mapping[str, tuple[str, ...]],
    before: Mapping[str, Stage],
) -> Stage:
    address = _address(root, stage)
    reasons: tuple[str, ...] = ()
    if stage.name not in lock.now:
        state = NEVER
    else:
        reasons = tuple(_find_reasons(stage, made))
        is_behind = any(before[need].state != CURRENT for need in needs[address])
        state = CHANGED if reasons else BEHIND if is_behind else CURRENT
    run = name_command(stage.cmd)
    manifest = root / "runs" / f"{run}.json"
    folder = Path(stage.path).parent
    return Stage(
        address=address,
        graph=folder.name if folder.parent.name == TRACKS.name else CORE,
        name=stage.name,
        kind=split_command(stage.cmd)[0],
        run=run,
        state=state,
        reasons=reasons,
        again=lock.find_again(stage.name),
        outs=tuple(
            Out(Path(o.fs_path).relative_to(root.resolve()).as_posix(), o.meta.size, o.exists)
            for o in stage.outs
        ),
        needs=needs[address],
        manifest=read_json(manifest) if manifest.is_file() else None,
    )


def _find_reasons(stage: dvc.stage.Stage, made: Mapping[str, Any]) -> Iterator[str]:
    """Yields why `dvc repro` would run the stage; of parameters, the values."""
    values = []
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            old, new = (flatten("", found) for found in (dep.hash_info.value, dep.read_params()))
            values += [
                f"{key}: {_show(old.get(key))} → {_show(new.get(key))}"
                for key in sorted(old.keys() | new.keys())
                if old.get(key) != new.get(key)
            ]
    yield from values[:_MAX_VALUES]
    if len(values) > _MAX_VALUES:
        yield f"{len(values) - _MAX_VALUES} more parameters"
    params = [key for dep in stage.deps if isinstance(dep, ParamsDependency) for key in dep.params]
    for change in find_changes(stage, made):
        if not (values and change.partition(" is ")[0] in params):
            yield change


def _show(value: Any) -> str:
    return "–" if value is None else str(value)


def _sort(needs: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Returns the addresses, each after those it needs; of several, the first by name.

    Those of the core come first: no stage of it needs one of a track.
    """
    order: list[str] = []
    waiting = sorted(needs, key=lambda address: (":" in address, address))
    while waiting:
        ready = next(name for name in waiting if set(needs[name]) <= set(order))
        order.append(ready)
        waiting.remove(ready)
    return order
