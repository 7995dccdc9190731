"""Where sft and grpo run alone; a module whose tests need more has a `source` of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.training import make_training


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns such a repository, which tests leave as it is."""
    repo = tmp_path_factory.mktemp("source") / "repo"
    make_training(repo)
    return repo


@pytest.fixture
def repo(source: Path, tmp_path: Path) -> Path:
    """Returns a copy that a test may change."""
    return Path(shutil.copytree(source, tmp_path / "repo", symlinks=True))
