"""Checks on a node before a stage starts there: what would fail in an hour fails in seconds."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stages._contract import params
from stages._contract.run import PARAMS
from stages._launch.collective import MAX_SKEW_S, check_collective
from stages._launch.deps import list_deps
from stages._launch.gpus import check_gpus
from stages._launch.server import ADDRESS, check_server

WORK = Path("work")
_PIN = re.compile(r"(?m)^([A-Za-z0-9._-]+)==([^\s;\\]+)")
_NUM_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Demands:
    """What a stage demands of each node, from its needs and the site."""

    num_gpus: int = 0
    gpu_type: str | None = None
    min_scratch_bytes: int = 0  # where temporary files go
    collective_timeout_s: float = 0  # 0: the processes are not tried together


def check_node(stage: str, cell: dict[str, str], demands: Demands) -> None:
    """Checks that the stage can start on this node, and on the job's others together with it.

    Raises:
        ValueError: it cannot; names what is missing, and the node if Slurm says which it is.
    """
    try:
        _check_node(stage, cell, demands)
    except ValueError as error:
        node = os.environ.get("SLURMD_NODENAME")
        raise ValueError(f"{error} (node {node})" if node else str(error)) from error


def _check_node(stage: str, cell: dict[str, str], demands: Demands) -> None:
    check_clock(WORK)
    for path in list_deps(stage, cell):
        if not path.exists():
            raise ValueError(
                f"this node does not see {path.absolute()}: the repository must lie on a "
                f"filesystem that all nodes share"
            )
        if path.match("containers/*.lock.txt"):
            check_packages(path)
    check_gpus(demands.num_gpus, demands.gpu_type)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < demands.min_scratch_bytes:
        raise ValueError(
            f"{folder} of this node has {free} bytes free, and min_scratch_bytes is "
            f"{demands.min_scratch_bytes}: name another scratch in the site's file, or clean that "
            f"one"
        )
    if os.environ.get(ADDRESS) and os.environ.get("R1_NODE_RANK", "0") == "0":
        check_server(stage, cell, os.environ[ADDRESS])
    if demands.collective_timeout_s:
        # Where there is no driver, there is nothing for NCCL, whatever Slurm calls GPUs.
        num_gpus = demands.num_gpus if shutil.which("nvidia-smi") else 0
        num_nodes = int(os.environ.get("R1_NUM_NODES", "1"))
        num = getattr(params.load_cell(PARAMS, stage, cell), "num_processes", num_gpus * num_nodes)
        check_collective(num, num_nodes, num_gpus, demands.collective_timeout_s)


def check_clock(folder: Path) -> None:
    """Checks that this node can write into the folder, and that its clock is the folder's.

    DVC and checkpoints go by the times of files. The clock of the machine that submitted the job is
    in R1_SUBMITTED: no node can be before it.

    Raises:
        ValueError: it cannot, or another machine's clock is more than seconds away.
    """
    try:
        folder.mkdir(exist_ok=True)
        before = time.time()
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".preflight-") as file:
            file.write(b"x")
            file.flush()
            written = os.fstat(file.fileno()).st_mtime
            after = time.time()
    except OSError as error:
        raise ValueError(
            f"this node cannot write into {folder.absolute()} ({error.strerror}): see work_dir in "
            f"the site's file, and the rights of that folder"
        ) from error
    check_skew(written - after, written - before, f"the filesystem of {folder.absolute()}")
    submitted = float(os.environ.get("R1_SUBMITTED", "0"))
    check_skew(submitted - after, 0, "the machine that submitted this job")


def check_skew(least_s: float, most_s: float, other: str) -> None:
    """Checks that another clock is not ahead by `least_s` or more, or behind by `-most_s` or more.

    Raises:
        ValueError: it is.
    """
    skew_s = max(least_s, 0) + min(most_s, 0)
    if abs(skew_s) > MAX_SKEW_S:
        where = "behind" if skew_s > 0 else "ahead of"
        raise ValueError(
            f"the clock of this node is {abs(skew_s):.0f} s {where} "
            f"that of {other}, and DVC and checkpoints go by the times of files: exclude the node, "
            f"and have its NTP mended"
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
