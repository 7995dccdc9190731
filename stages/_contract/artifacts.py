"""Files that stages hand on: written whole or not at all, read strictly, with stable bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_RESTORE = "run `dvc checkout --force`, or `dvc repro --force` on the stage that writes it"


@contextmanager
def publish(out: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes `out` when the block ends, and vanishes if it fails.

    The folder is a hidden sibling of `out`, so that the last steps are two renames: the old output
    goes aside, and is removed when the new one is there. What a killed run left there is removed
    first.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    for leftover in out.parent.glob(f".{out.name}.*"):
        shutil.rmtree(leftover)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    folder.chmod(0o755)
    old = folder.with_name(f"{folder.name}.old")
    try:
        yield folder
        if out.exists():
            out.rename(old)
        folder.rename(out)
        if old.exists():
            shutil.rmtree(old)
    finally:
        if folder.exists():  # else it was renamed
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def write_whole(path: Path) -> Iterator[TextIO]:
    """Yields a text file that becomes `path` when the block ends; else `path` stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)  # gone already if it was renamed


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a JSON Lines file, of which there is at least one.

    Raises:
        ValueError: a line is no JSON object, or there is none; names the file and the line.
    """
    rows = list(iterate_jsonl(path))
    if not rows:
        raise ValueError(f"{path} is empty: {_remedy(path)}")
    return rows


def iterate_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a JSON Lines file one by one, which need not fit into memory together.

    Blank lines are no rows: editors leave them at the end of a file.

    Raises:
        ValueError: a line is no JSON object; names the file and the line.
    """
    with path.open("rb") as lines:  # text is decoded ahead, and errors would have no line
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode())
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise ValueError(
                    f"{path}:{number} is corrupted ({error}): {_remedy(path)}"
                ) from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}:{number} is not a JSON object: {_remedy(path)}")  # noqa: TRY004
            yield row


def _remedy(path: Path) -> str:
    """Returns what to do about a bad file: some are stages' outputs, the others the user's."""
    return _RESTORE if path.parts[:1] == ("artifacts",) else "correct the file"


def check_model(folder: Path) -> None:
    """Checks that a model folder has a config and weights, and that its files are whole.

    Raises:
        ValueError: one is missing or corrupted; names it.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - not every stage has one

    for pattern in ("config.json", "*.safetensors"):
        if not list(folder.glob(pattern)):
            raise ValueError(f"the model {folder} has no {pattern}: {_remedy(folder)}")
    for path in sorted(folder.iterdir()):
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="numpy"):
                    pass
            elif path.suffix == ".json":
                json.loads(path.read_bytes())
        except (SafetensorError, ValueError) as error:
            raise ValueError(f"{path} is corrupted ({error}): {_remedy(folder)}") from error


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes one JSON object per line, whole or not at all: sorted keys, UTF-8, finite numbers."""
    with write_whole(path) as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, sort_keys=True, allow_nan=False)
            file.write(line + "\n")


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, whole or not at all: sorted keys, an indent of 1, UTF-8."""
    with write_whole(path) as file:
        json.dump(value, file, ensure_ascii=False, sort_keys=True, indent=1, allow_nan=False)
        file.write("\n")


def sha256_file(path: Path) -> str:
    """Returns the file's digest in 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(path: Path) -> str:
    """Returns the digest of a folder: that of `sha256sum`'s lines, sorted by relative path."""
    files = sorted(
        Path(folder, name).relative_to(path).as_posix()
        for folder, _, names in os.walk(path)
        for name in names
    )
    lines = "".join(f"{sha256_file(path / name)}  {name}\n" for name in files)
    return hashlib.sha256(lines.encode()).hexdigest()
