"""The result of a stage's job: taken only if it belongs to what DVC will record it under."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from stages._contract.artifacts import publish
from stages._launch.deps import find_changes, hash_deps
from stages._launch.render import list_outputs

if TYPE_CHECKING:
    from pathlib import Path


def take_result(
    stage: str, cell: dict[str, str], before: dict[str, str], job_id: str, kept: Path
) -> None:
    """Checks that the job's result is there, from what it kept if need be, and is DVC's to record.

    Raises:
        ValueError: it is not there, or something that it depends on has changed meanwhile.
    """
    outputs = list_outputs(stage, cell)
    if not all(path.exists() for path in outputs) and kept.is_dir():
        _restore(kept, outputs)
    missing = [path for path in outputs if not path.exists()]
    shutil.rmtree(kept, ignore_errors=True)  # not to be taken again, above all if it is refused
    if missing:
        raise ValueError(
            f"job {job_id} has succeeded, and {missing[0]} is not seen here: the repository must "
            f"lie on a filesystem that all nodes share"
        )
    changes = find_changes(before, hash_deps(stage, cell))
    if changes:
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise ValueError(
            f"{changes[0]}{more} changed while job {job_id} ran, so its result belongs to neither "
            f"version: run again, and work in another clone or worktree meanwhile"
        )


def _restore(kept: Path, outputs: list[Path]) -> None:
    """Links what a job has kept to its places; folders are there whole or not at all."""
    manifests = [path.relative_to(kept) for path in kept.glob("runs/*")]
    for path in [*manifests, *outputs]:
        if (kept / path).is_dir():
            with publish(path) as folder:
                shutil.copytree(kept / path, folder, copy_function=os.link, dirs_exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.hardlink_to(kept / path)
