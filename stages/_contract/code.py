"""The code of a stage, by which a run knows unfinished work of its own from that of other code."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from stages._contract.artifacts import sha256_file
from stages._contract.params import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

_IMPORTED = re.compile(r"\bstages\.(\w+)")


def hash_code(stage: str, image: str) -> str:
    """Returns the digest of what the stage runs: its code, the code that it imports, the packages.

    Whole folders of stages/, where dvc.yaml names the files: a change may begin a run anew that
    could have gone on, and never the other way round. Pages and bytecode are no code.

    Args:
        stage: its name.
        image: whose lock of packages counts, if it is there.
    """
    lines = []
    waiting, folders = ["_contract", stage], set()
    while waiting:
        folder = STAGES / waiting.pop()
        if folder in folders or not folder.is_dir():  # stages.x may be a file, too
            continue
        folders.add(folder)
        for path in _list_files(folder):
            lines.append(f"{sha256_file(path)}  {path.relative_to(STAGES).as_posix()}\n")
            if path.suffix == ".py":
                waiting += _IMPORTED.findall(path.read_text(encoding="utf-8"))
    lock = Path("containers", f"{image}.lock.txt")
    if lock.is_file():
        lines.append(f"{sha256_file(lock)}  {lock}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _list_files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        if Path(place).name != "__pycache__":
            yield from (Path(place, name) for name in names if not name.endswith(".md"))
