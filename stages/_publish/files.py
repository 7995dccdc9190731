"""Files with their digests, each read once."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dvc_data.hashfile.tree import Tree

from stages._publish.credentials import find_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHUNK_BYTES = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file to publish.

    `path` is where it goes, relative to what is published; `source` is a file or the bytes
    themselves. `git_sha1` is git's name for its content, as the hub shows it for small files.
    """

    path: str
    source: Path | bytes
    size: int
    md5: str
    sha256: str
    git_sha1: str

    def move(self, path: str) -> File:
        """Returns the same file to go elsewhere."""
        return replace(self, path=path)


def read_file(path: str, source: Path | bytes) -> File:
    """Returns the file with its digests.

    Raises:
        ValueError: it has the value of an environment variable that looks like a secret.
    """
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    digests = [hashlib.md5(usedforsecurity=False), hashlib.sha256()]
    digests.append(hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False))
    secrets = {name: value.encode() for name, value in find_secrets().items()}
    overlap = max((len(value) for value in secrets.values()), default=1) - 1
    before = b""
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        while chunk := file.read(_CHUNK_BYTES):
            for digest in digests:
                digest.update(chunk)
            seen = before + chunk
            for name, value in secrets.items():
                if value in seen:
                    raise ValueError(
                        f"{source if isinstance(source, Path) else path} has the value of {name}: "
                        "remove it there, or unset the variable if it is no secret"
                    )
            before = seen[len(seen) - overlap :] if overlap else b""
    md5, sha256, git_sha1 = (digest.hexdigest() for digest in digests)
    return File(path=path, source=source, size=size, md5=md5, sha256=sha256, git_sha1=git_sha1)


def read_folder(folder: Path) -> list[File]:
    """Returns the folder's files, sorted by path.

    Raises:
        ValueError: as `read_file`.
    """
    paths = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    return [read_file(name, named[name]) for name in sorted(named)]


def digest_as_dvc(files: Sequence[File]) -> str:
    """Returns what a lock of DVC records as the md5 of a folder with these files."""
    tree = Tree.from_list([{"relpath": file.path, "md5": file.md5} for file in files])
    tree.digest()
    return str(tree.hash_info.value)


def list_sums(files: Sequence[File]) -> bytes:
    """Returns what `sha256sum` prints of the files; `sha256sum -c` reads it."""
    return "".join(f"{file.sha256}  {file.path}\n" for file in files).encode()


def digest_folder(files: Sequence[File]) -> str:
    """Returns the digest that a manifest in runs/ records of a folder with these files."""
    return hashlib.sha256(list_sums(files)).hexdigest()
