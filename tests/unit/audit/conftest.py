"""Copies of this repository, for tests that damage or change one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.git import git

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a clone with the working tree's files committed on top, without artifacts."""
    repo = tmp_path_factory.mktemp("audit") / "original"
    git(ROOT, "clone", "-q", str(ROOT), str(repo))
    git(repo, "rm", "-rqf", ".")
    listing = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (repo / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, repo / name)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "--allow-empty", "-m", "as it is")
    return repo


@pytest.fixture
def repo(original: Path, tmp_path: Path) -> Path:
    """Returns a copy that a test may damage."""
    shutil.copytree(original, tmp_path / "repo")
    return tmp_path / "repo"
