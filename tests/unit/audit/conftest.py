"""Copies of this repository, for tests that damage or change one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repo(original: Path, tmp_path: Path) -> Path:
    """Returns a copy that a test may damage."""
    shutil.copytree(original, tmp_path / "repo")
    return tmp_path / "repo"
