"""What a stage depends on, as its dvc.yaml says it, and the digests of all that.

A job takes hours in which somebody may edit what it read. DVC hashes dependencies when the job has
ended, and would write down that the edited ones gave the result.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages._contract import params
from stages._contract.artifacts import sha256_file
from stages._contract.places import TRACKS, params_of
from stages._contract.run import PARAMS

GRAPH = Path("dvc.yaml")
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def list_deps(stage: str, cell: dict[str, str]) -> list[Path]:
    """Returns the files and folders that dvc.yaml names as the cell's dependencies.

    Raises:
        ValueError: dvc.yaml has no such stage, or names what params.yaml has not.
    """
    graph, known = GRAPH, {**_read(PARAMS), "item": cell}
    if "track" in cell:  # whose graph reads both files of parameters
        graph = TRACKS / cell["track"] / GRAPH
        known = _merge(known, _read(params_of(cell)))
    stages, name = _read(graph).get("stages", {}), cell.get("section", stage)
    if name not in stages:
        raise ValueError(f"{graph} has no stage {name!r}: it has {', '.join(stages)}")
    return [Path(_fill_in(dep, known, graph)) for dep in stages[name].get("deps", [])]


def _merge(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Returns both; a section that is in both holds what is in either."""
    merged = dict(first)
    for key, value in second.items():
        found = merged.get(key)
        if isinstance(found, dict) and isinstance(value, dict):
            merged[key] = _merge(found, value)
        else:
            merged[key] = value
    return merged


def hash_deps(stage: str, cell: dict[str, str]) -> dict[str, str]:
    """Returns sha256 by path of the cell's dependencies, and of its parameters.

    Raises:
        FileNotFoundError: one is not there.
    """
    values = repr(params.load_cell(PARAMS, stage, cell))
    digests = {f"{PARAMS}: {stage}": hashlib.sha256(values.encode()).hexdigest()}
    for dep in list_deps(stage, cell):
        if not dep.exists():
            raise FileNotFoundError(
                f"{dep} is not there: `dvc repro` makes what stages make, `git checkout` restores "
                f"the rest"
            )
        for path in _list_files(dep):
            digests[path.as_posix()] = sha256_file(path)
    return digests


def find_changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Returns what has another digest or is in one of them only, sorted."""
    return sorted(
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    )


def key_of(stage: str, cell: dict[str, str], digests: dict[str, str], work_dir: str) -> str:
    """Returns 16 hex digits that only jobs for the same result in the same repository share."""
    text = json.dumps([stage, cell, digests, work_dir], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _list_files(dep: Path) -> list[Path]:
    """Returns the files that count, as .dvcignore has it: no bytecode, no pages of the code."""
    if dep.is_file():
        return [dep]
    is_code = dep.parts[0] == "stages"
    return sorted(
        Path(folder, name)
        for folder, _, names in os.walk(dep)
        if Path(folder).name != "__pycache__"
        for name in names
        if not (is_code and name.endswith(".md"))
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"there is no {path}: run from the repository's root")
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(path)
    return found


def _fill_in(dep: str, known: dict[str, Any], graph: Path) -> str:
    """Returns the text with `${a.b}` replaced by what `known` has there."""

    def look_up(match: re.Match[str]) -> str:
        value: Any = known
        for part in match[1].split("."):
            if not isinstance(value, dict) or part not in value:
                raise ValueError(
                    f"{graph} asks for {match[0]}, which is neither in {PARAMS} nor in the cell "
                    f"{known['item']}: name the cell as dvc.yaml does, e.g. --model sft --task x"
                )
            value = value[part]
        return str(value)

    return _REFERENCE.sub(look_up, dep)
