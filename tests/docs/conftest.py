"""Repositories in which the pages' commands are run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.git import git

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def copy(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a copy of this repository on a branch beside main, set up, as a reader has it."""
    return make_copy(original, tmp_path_factory.mktemp("copy") / "rederive")


def make_copy(original: Path, copy: Path) -> Path:
    """Returns a clone that is set up and has a branch main, which the new branch work is upon."""
    git(original, "clone", "-q", str(original), str(copy))
    git(copy, "checkout", "-q", "-B", "work")
    git(copy, "branch", "-f", "main", "HEAD")
    (copy / ".venv").symlink_to(sys.prefix)
    return copy
