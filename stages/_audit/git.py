"""What git says, asked in the repository's folder."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Returns the ended command, whatever its exit status."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=root, text=True, capture_output=True, check=False)  # noqa: S603


def read_commit(root: Path, revision: str) -> str:
    """Returns the revision's commit in 40 hex digits.

    Raises:
        ValueError: git knows no such revision.
    """
    done = git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if done.returncode:
        raise ValueError(
            f"git knows no revision {revision!r}: name a branch, a tag or a commit, and fetch it "
            f"first if it is on a remote"
        )
    return done.stdout.strip()


def read_at(root: Path, revision: str, path: str) -> str | None:
    """Returns a file's text in a commit, or None if it has no such file."""
    done = git(root, "show", f"{revision}:{path}")
    return None if done.returncode else done.stdout


def list_at(root: Path, revision: str, folder: str) -> list[str]:
    """Returns the files in a commit's folder and below, or none if it has no such folder."""
    return git(root, "ls-tree", "-r", "--name-only", revision, f"{folder}/").stdout.splitlines()
