"""Fetches a lock's packages for an image, from where pip is configured to look.

Here and not in the image, so that pip's configuration, its index and its mirrors never get there;
and as for the image's Debian, whatever this machine is: another libc would choose other files.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# What Debian bookworm's pip takes, first what it likes best: glibc 2.36, and old names.
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
# PyPI carries no CPU build of torch; this one is PyTorch's own, and its digest is in the lock.
_TORCH_SITE = "https://download.pytorch.org/whl/cpu/torch-{}-cp311-cp311-manylinux_2_28_x86_64.whl"


def download(lock: Path, folder: Path) -> dict[str, str]:
    """Fills the folder with the files of the lock's packages, and returns their sha256 by name.

    Raises:
        RuntimeError: pip could not find or fetch one.
    """
    stamp = folder.with_suffix(".sha256")
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != digest:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        text = lock.read_text(encoding="utf-8")
        torch = re.search(r"(?m)^torch==(\S+\+cpu) .*(\n .*)*", text)
        if torch:
            _download_torch(torch[0], torch[1], folder)
        _pip(["--require-hashes", "--find-links", str(folder), "-r", str(lock)], folder)
        stamp.write_text(digest, encoding="utf-8")
    return {path.name: sha256(path) for path in sorted(folder.iterdir())}


def _download_torch(block: str, version: str, folder: Path) -> None:
    """Fetches torch from pip's own sources, or else from PyTorch's site; its digest is checked."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirement:
        requirement.write(block + "\n")
        requirement.flush()
        try:
            _pip(["--require-hashes", "-r", requirement.name], folder)
        except RuntimeError:
            url = _TORCH_SITE.format(version.replace("+", "%2B"))
            _pip([f"{url}#sha256={block.rpartition('sha256:')[2].strip()}"], folder)


def _pip(arguments: list[str], folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    command += ["-qq", "--dest", str(folder), *arguments]
    for platform in platforms():
        command += ["--platform", platform]
    status = subprocess.run(command, check=False).returncode  # noqa: S603
    if status:
        raise RuntimeError(f"pip download ended with {status}: see above")


def platforms() -> list[str]:
    """Returns the names of the platforms whose packages run in the images, the best first."""
    names = []
    for minor in range(36, 4, -1):
        names.append(f"manylinux_2_{minor}_x86_64")
        if minor in _OLD_NAMES:
            names.append(f"{_OLD_NAMES[minor]}_x86_64")
    return [*names, "linux_x86_64"]


def sha256(path: Path) -> str:
    """Returns the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
