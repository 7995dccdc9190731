"""Checks on a node before a stage starts there: what would fail in an hour fails in seconds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from stages._launch.deps import list_deps

if TYPE_CHECKING:
    from pathlib import Path

_PIN = re.compile(r"(?m)^([A-Za-z0-9._-]+)==([^\s;\\]+)")
_NUM_SHOWN = 3


def check_node(stage: str, cell: dict[str, str], num_gpus: int, min_scratch_bytes: int) -> None:
    """Checks that the stage can start on this node.

    Args:
        stage: its name.
        cell: its cell.
        num_gpus: how many GPUs were asked for.
        min_scratch_bytes: what must be free where temporary files go.

    Raises:
        ValueError: it cannot; names what is missing.
    """
    for path in list_deps(stage, cell):
        if not path.exists():
            raise ValueError(
                f"this node does not see {path.absolute()}: the repository must lie on a "
                f"filesystem that all nodes share"
            )
        if path.match("containers/*.lock.txt"):
            check_packages(path)
    check_gpus(num_gpus)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < min_scratch_bytes:
        raise ValueError(
            f"{folder} of this node has {free} bytes free, and min_scratch_bytes is "
            f"{min_scratch_bytes}: name another scratch in the site's file, or clean that one"
        )


def check_packages(lock: Path) -> None:
    """Checks that this environment holds the packages of the lock.

    Raises:
        ValueError: one is missing or has another version; names the first few.
    """
    wrong = []
    for name, wanted in _PIN.findall(lock.read_text(encoding="utf-8")):
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "none"
        if found != wanted:
            wrong.append(f"{name} {found} instead of {wanted}")
    if wrong:
        more = f" and {len(wrong) - _NUM_SHOWN} more" if len(wrong) > _NUM_SHOWN else ""
        raise ValueError(
            f"the environment of the nodes is not that of {lock}: {', '.join(wrong[:_NUM_SHOWN])}"
            f"{more}: set it up again with nox, or name another image or python in the site's file"
        )


def check_gpus(num_gpus: int) -> None:
    """Checks that Slurm has given that many GPUs and, if the driver is there, that it has them.

    Raises:
        ValueError: there are fewer.
    """
    if not num_gpus:
        return
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None and len([name for name in given.split(",") if name]) < num_gpus:
        raise ValueError(
            f"gpus_per_node is {num_gpus}, and CUDA_VISIBLE_DEVICES is {given!r}: see gpu_flag and "
            f"gpu_type in the site's file"
        )
    command = shutil.which("nvidia-smi")
    if command is None and given is None:
        raise ValueError(
            f"gpus_per_node is {num_gpus}, and this node has neither CUDA_VISIBLE_DEVICES nor "
            f"nvidia-smi: see gpu_flag and partition in the site's file"
        )
    if command is None:
        return
    done = subprocess.run([command, "-L"], text=True, capture_output=True, check=False)  # noqa: S603
    found = sum(line.startswith("GPU ") for line in done.stdout.splitlines())
    if done.returncode or found < num_gpus:
        said = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise ValueError(
            f"gpus_per_node is {num_gpus}, and nvidia-smi finds {found} on this node"
            f"{f' ({said})' if done.returncode else ''}: exclude the node, and report it"
        )
