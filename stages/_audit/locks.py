"""The stages that have run, of the core graph and of the tracks, as their locks record them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from stages._audit.git import list_at, read_at
from stages._audit.published import read_text
from stages._contract.places import TRACKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Entry = dict[str, Any]
LOCK = "dvc.lock"


def read_locks(root: Path, commit: str | None = None) -> dict[str, Entry]:
    """Returns what each stage read and wrote, by DVC's address, each after those it depends on.

    The core's come first, then the tracks', one track after the other: `grpo`, and
    `tracks/r1/dvc.yaml:scenarios`. A graph without a lock has run nothing.

    Args:
        root: the repository's folder.
        commit: as it was there; None: as the files are.
    """
    if commit is None:
        tracks = [path.relative_to(root).as_posix() for path in root.glob(f"{TRACKS}/*/{LOCK}")]
    else:
        paths = list_at(root, commit, TRACKS.as_posix())
        tracks = [path for path in paths if PurePosixPath(path).match(f"{TRACKS}/*/{LOCK}")]
    entries: dict[str, Entry] = {}
    for name in (LOCK, *sorted(tracks)):
        text = read_text(root / name) if commit is None else read_at(root, commit, name)
        found = YAML(typ="safe", pure=True).load(text)["stages"] if text else {}
        graph = "" if name == LOCK else f"{PurePosixPath(name).with_name('dvc.yaml')}:"
        entries |= {f"{graph}{stage}": entry for stage, entry in found.items()}
    return {address: entries[address] for address in _sort(entries)}


def track_of(address: str) -> str | None:
    """Returns the track that the stage is of; None: the core."""
    path, colon, _ = address.partition(":")
    return PurePosixPath(path).parent.name if colon else None


def list_graphs(addresses: Iterable[str]) -> list[str]:
    """Returns the names of the stages' graphs, in their order: core, or that of the track."""
    return list(dict.fromkeys(track_of(address) or "core" for address in addresses))


def _sort(entries: Mapping[str, Entry]) -> list[str]:
    """Returns the addresses, each after those it needs; of several, one of the same graph first."""
    needs = _find_needs(entries)
    order: list[str] = []
    track = None
    waiting = sorted(entries, key=lambda address: (track_of(address) is not None, address))
    while waiting:
        ready = [address for address in waiting if needs[address] <= set(order)]
        same = [address for address in ready if track_of(address) == track]
        chosen = (same or ready or waiting)[0]  # locks of other times may make a circle
        track = track_of(chosen)
        order.append(chosen)
        waiting.remove(chosen)
    return order


def _find_needs(entries: Mapping[str, Entry]) -> dict[str, set[str]]:
    """Returns by address the stages that make what the stage reads, a folder's part or whole."""
    makers = {
        out["path"]: address for address, entry in entries.items() for out in entry.get("outs", [])
    }
    needs: dict[str, set[str]] = {}
    for address, entry in entries.items():
        read = {dep["path"] for dep in entry["deps"]}
        within = {makers[above] for path in read for above in _list_above(path) if above in makers}
        around = {maker for out, maker in makers.items() if read.intersection(_list_above(out))}
        needs[address] = (within | around) - {address}
    return needs


def _list_above(path: str) -> list[str]:
    """Returns the path and the folders that it is in."""
    return [path, *map(str, PurePosixPath(path).parents)]
