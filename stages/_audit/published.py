"""What a run leaves in git, as the checks read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages._contract.params import load, load_cell, read_sections
from stages._contract.places import TRACKS, name_of
from stages._live.reference import leaves

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stages._contract.places import Cell


def read_json(path: Path) -> Any:
    """Returns a JSON file's value."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_text(path: Path) -> str | None:
    """Returns the text of a file, or None if there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else None


def list_reports(root: Path) -> Iterator[tuple[Cell, Any]]:
    """Yields cell and parameters of all reports, each of a table: the core's, then the tracks'."""
    path = root / "params.yaml"
    yield {}, load(path, "report")
    for track in sorted(root.glob(f"{TRACKS}/*/params.yaml")):
        for section in read_sections(track).get("report", {}):
            cell = {"track": track.parent.name, "section": section}
            yield cell, load_cell(path, "report", cell)


def name_run(stage: str) -> str:
    """Returns the stem of a core stage's files in runs/, by DVC's name: evaluate@sft-sums."""
    return stage.replace("@", "-")


def name_command(command: str) -> str:
    """Returns the stem of the files in runs/ that a graph's command, a track's too, writes."""
    return name_of(*split_command(command))


def split_command(command: str) -> tuple[str, dict[str, str]]:
    """Returns the stage and the cell that a graph's command runs."""
    _, _, _, _, stage, *options = command.split()  # python -m stages run STAGE --key value
    keys = (option.removeprefix("--") for option in options[::2])
    return stage, dict(zip(keys, options[1::2], strict=True))


def read_run(root: Path, name: str) -> dict[str, Any]:
    """Returns a manifest, by the stem of its file."""
    run: dict[str, Any] = read_json(root / "runs" / f"{name}.json")
    return run


def is_made(path: str, made: Iterable[str]) -> bool:
    """Returns whether a stage makes the path, the folder that it is in, or something in it.

    Args:
        path: relative to the same folder as all of `made`, or absolute as they are.
        made: the outputs.
    """
    return any(Path(path).is_relative_to(out) or Path(out).is_relative_to(path) for out in made)


def flatten(prefix: str, value: Any) -> dict[str, Any]:
    """Returns the leaves of nested mappings by dotted name, below `prefix` if that is not "".

    An empty mapping has none.
    """
    return {name: leaf for name, leaf in leaves(prefix, value).items() if leaf != {}}
