"""Copies of this repository, for tests that damage or change one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repo(duplicate: Path) -> Path:
    """Returns a copy that a test may damage."""
    return duplicate
