"""The CPU image that containers/cpu.lock.yaml names, for tests that run stages in it."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from containers.build import check_machine, read_lock, sha256

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "images/cpu.sif"


@cache
def find_problem() -> str | None:
    """Returns why no image can be built and run here, or None if one can."""
    try:
        check_machine()
    except ValueError as error:
        return str(error)
    if os.geteuid() != 0:
        return "images are built by root: run the tests as root"
    return None


def lock() -> dict[str, Any]:
    """Returns what the image's lock says."""
    found = read_lock("cpu")
    assert found, "the lock is committed"
    return found


def is_built() -> bool:
    """Returns whether images/cpu.sif is the lock's, from whatever build."""
    return IMAGE.is_file() and sha256(IMAGE) == lock()["sif_sha256"]


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Returns what became of a build in a copy of the repository, compared with the lock."""
    command = [sys.executable, "-m", "containers.build", "--check", "cpu"]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)


def apptainer(*arguments: str) -> str:
    """Returns what Apptainer prints; it succeeds."""
    command = ["apptainer", "--silent", *arguments]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
