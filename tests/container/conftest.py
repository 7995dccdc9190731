"""One image for all tests here, and why they are skipped where there can be none."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.container.image import IMAGE, ROOT, build, find_problem

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def image() -> Path:
    """Returns the image, built once for all tests, elsewhere than users do and with another umask.

    Where it lies, the build's sandbox would not hide it: not in pytest's folders.
    """
    problem = find_problem()
    if problem:
        pytest.skip(problem)
    elsewhere = ROOT / "images/elsewhere"
    shutil.rmtree(elsewhere, ignore_errors=True)
    mask = os.umask(0o077)
    try:
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "containers", elsewhere / "containers", ignore=skip)
        for path in (elsewhere / "containers").iterdir():
            path.chmod(0o600)
        kept = ROOT / "images/wheels"  # their digests are checked again in the image
        if kept.is_dir():
            shutil.copytree(kept, elsewhere / "images/wheels", copy_function=os.link)
        done = build(elsewhere)
    finally:
        os.umask(mask)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "is what containers/cpu.lock.yaml says, byte for byte" in done.stdout
    (elsewhere / "images/cpu.sif").replace(IMAGE)
    shutil.rmtree(elsewhere)
    return IMAGE
