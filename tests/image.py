"""The CPU image that containers/cpu.lock.yaml names, for tests that run stages in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from containers.build import check_machine, read_lock
from containers.wheels import sha256

ROOT = Path(__file__).parents[1]
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


def build() -> None:
    """Builds the image elsewhere than users do, with another umask, and compares with the lock.

    Where that is, the build's sandbox does not hide it: not in pytest's folders.
    """
    elsewhere = ROOT / "images/elsewhere"
    shutil.rmtree(elsewhere, ignore_errors=True)
    mask = os.umask(0o077)
    try:
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "containers", elsewhere / "containers", ignore=skip)
        for path in (elsewhere / "containers").iterdir():
            path.chmod(0o600)
        fetched = ROOT / "images/wheels"  # their digests are checked in the image
        if fetched.is_dir():
            shutil.copytree(fetched, elsewhere / "images/wheels", copy_function=os.link)
        command = [sys.executable, "-m", "containers.build", "--check", "cpu"]
        done = subprocess.run(command, cwd=elsewhere, text=True, capture_output=True, check=False)
    finally:
        os.umask(mask)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "is what containers/cpu.lock.yaml says, byte for byte" in done.stdout
    if not fetched.is_dir():
        (elsewhere / "images/wheels").replace(fetched)
    (elsewhere / "images/cpu.sif").replace(IMAGE)
    shutil.rmtree(elsewhere)


def apptainer(*arguments: str) -> str:
    """Returns what Apptainer prints; it succeeds."""
    command = ["apptainer", "--silent", *arguments]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
