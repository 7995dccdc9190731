"""A CycloneDX bill of materials of each locked environment, made by cyclonedx-py."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_sbom(lock: Path, path: Path) -> None:
    """Writes the packages of a hash lock with their versions and sha256, valid CycloneDX 1.6.

    Raises:
        ValueError: cyclonedx-py refuses the lock, or what it made of it.
    """
    options = ["--output-reproducible", "--spec-version", "1.6", "--output-format", "JSON"]
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", str(lock)]
    done = subprocess.run(  # noqa: S603
        [*command, *options, "--validate", "--output-file", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(f"cyclonedx-py cannot make a bill of materials of {lock}: {done.stderr}")
