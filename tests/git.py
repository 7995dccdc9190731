"""Git, as tests use it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def git(repo: Path, *arguments: str) -> str:
    """Returns what git prints; it succeeds, and commits as somebody."""
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    command = ["git", *identity, *arguments]
    done = subprocess.run(command, cwd=repo, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
