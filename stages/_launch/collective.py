"""Tries a stage's processes together before it starts: they meet, and add a number up.

One process per GPU, or per `num_processes` on CPUs, on all nodes of the job, as the stage itself
will be: by NCCL where there are GPUs, by gloo otherwise. What NCCL uses of the network is told to
it by the site's `environment`. Tried with one H100 alone, which is
one GPU too few: NCCL's all-reduce was never run.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import TCPStore

MAX_SKEW_S = 5
_FAILED = 3  # the worker has said why
_SPARE_S = 60  # for the start of Python and torch, from a filesystem that is cold
_POLL_S = 0.1


def check_collective(num_processes: int, num_nodes: int, num_gpus: int, timeout_s: float) -> None:
    """Checks that this node's share of the processes can compute with the others.

    Args:
        num_processes: of all nodes together; one alone is not tried.
        num_nodes: on which they are.
        num_gpus: of each node; 0: they compute on CPUs.
        timeout_s: until when all have come, and within which they have added up.

    Raises:
        ValueError: they cannot; names the processes that did not come, or what failed.
    """
    if num_processes <= 1:
        return
    num_local = num_processes // num_nodes
    node_rank = int(os.environ.get("R1_NODE_RANK", "0"))
    environment = {
        **os.environ,
        "MASTER_ADDR": os.environ["MASTER_ADDR"] if num_nodes > 1 else "127.0.0.1",
        "MASTER_PORT": os.environ["MASTER_PORT"] if num_nodes > 1 else str(free_port("127.0.0.1")),
        "WORLD_SIZE": str(num_processes),
        "LOCAL_WORLD_SIZE": str(num_local),
        "R1_TIMEOUT_S": str(timeout_s),
        "R1_BACKEND": "nccl" if num_gpus else "gloo",
        "OMP_NUM_THREADS": "1",
    }
    workers: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
    with ExitStack() as stack:
        for local in range(num_local):
            ranks = {"RANK": str(node_rank * num_local + local), "LOCAL_RANK": str(local)}
            command = [sys.executable, "-m", "stages._launch.collective"]
            said = stack.enter_context(tempfile.TemporaryFile())
            worker = subprocess.Popen(command, env=environment | ranks, stderr=said)  # noqa: S603
            stack.callback(worker.wait)
            stack.callback(worker.kill)
            workers.append((worker, said))
        _wait(workers, 2 * timeout_s + _SPARE_S)


def _wait(workers: list[tuple[subprocess.Popen[bytes], IO[bytes]]], timeout_s: float) -> None:
    """Waits until all workers have succeeded. Raises ValueError with what the first one says."""
    deadline = time.monotonic() + timeout_s
    left = list(workers)
    while left:
        for worker, said in [pair for pair in left if pair[0].poll() is not None]:
            left.remove((worker, said))
            if worker.returncode:
                raise ValueError(_explain(worker.returncode, said))
        if time.monotonic() > deadline:
            raise ValueError(
                f"the processes of the stage do not compute together: after {timeout_s:.0f} s "
                f"{len(left)} of this node's {len(workers)} have not ended their all-reduce: see "
                f"environment in the site's file (NCCL_DEBUG: INFO says more)"
            )
        time.sleep(_POLL_S)


def _explain(status: int, said: IO[bytes]) -> str:
    said.seek(0)
    lines = [line for line in said.read().decode(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    if status == _FAILED:
        return last
    return (
        f"the processes of the stage do not compute together: one ended with status {status}: "
        f"{last}: see environment in the site's file (NCCL_DEBUG: INFO says more)"
    )


def free_port(host: str) -> int:
    """Returns a port of this machine's address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def work() -> None:
    """Runs in each process, which knows its place by the variables that torch reads.

    Raises:
        ValueError: others did not come, the sum is wrong, or a clock is.
    """
    import torch  # noqa: PLC0415 - takes seconds, which the process that waits does not need
    from torch import distributed  # noqa: PLC0415

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    limit = timedelta(seconds=float(os.environ["R1_TIMEOUT_S"]))
    place = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    try:
        store = distributed.TCPStore(
            *place, world, is_master=rank == 0, timeout=limit, wait_for_workers=False
        )
    except distributed.DistError as error:
        raise ValueError(
            f"rank 0 is not at {place[0]}:{place[1]} after {limit.total_seconds():.0f} s: see "
            f"what its node says above, and whether this one reaches it"
        ) from error
    _wait_for_all(store, world, limit)
    device = _pick_device()
    distributed.init_process_group(
        os.environ["R1_BACKEND"], store=store, rank=rank, world_size=world, timeout=limit
    )
    total = torch.tensor([float(rank)], device=device)
    distributed.all_reduce(total)
    if total.item() != world * (world - 1) / 2:
        raise ValueError(
            f"the all-reduce of {world} processes gave {total.item()} instead of "
            f"{world * (world - 1) / 2}: have the node's GPUs and network tested"
        )
    times: list[tuple[float, str]] = [(0.0, "")] * world
    distributed.all_gather_object(times, (time.time(), _node()))
    check_clocks(times)
    distributed.destroy_process_group()
    _leave(store, rank, world, limit)


def _pick_device() -> str:
    """Returns the device of this process. Raises ValueError if torch cannot use it."""
    import torch  # noqa: PLC0415

    if os.environ["R1_BACKEND"] == "gloo":
        return "cpu"
    device = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        torch.zeros(1, device=device)
        torch.cuda.set_device(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"torch (CUDA {torch.version.cuda}) cannot use {device} of {_node()}: "
            f"{str(error).partition(chr(10))[0]}: the driver may be too old, see `nvidia-smi`"
        ) from error
    return device


def _wait_for_all(store: TCPStore, world: int, limit: timedelta) -> None:
    """Waits until all processes have come.

    Raises:
        ValueError: some did not; names them and their places.
    """
    num_local = int(os.environ["LOCAL_WORLD_SIZE"])
    store.set(f"come/{os.environ['RANK']}", _node())
    names = [f"come/{rank}" for rank in range(world)]
    with suppress(RuntimeError):  # torch's error names no keys
        store.wait(names, limit)
        return
    late = [rank for rank, name in enumerate(names) if not store.check([name])]
    nodes = sorted({rank // num_local for rank in late})
    raise ValueError(
        f"ranks {_list(late)} of {world} (node ranks {_list(nodes)} of {world // num_local}) did "
        f"not come within {limit.total_seconds():.0f} s: see what those nodes say above, and "
        f"whether they reach {os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    )


def check_clocks(times: list[tuple[float, str]]) -> None:
    """Checks the times of the processes, with their nodes, at about one moment.

    Raises:
        ValueError: two of them are more than seconds apart; names their nodes.
    """
    (first, behind), (last, ahead) = min(times), max(times)
    if last - first > MAX_SKEW_S:
        raise ValueError(
            f"the clock of {behind} is {last - first:.0f} s behind that of {ahead}, and DVC and "
            f"checkpoints go by the times of files: exclude one, and have its NTP mended"
        )


def _leave(store: TCPStore, rank: int, world: int, limit: timedelta) -> None:
    """Ends when the first process has: the stage takes its port, and must not find it there."""
    store.set(f"left/{rank}", "")
    with suppress(RuntimeError):  # the first process, where the store is, has ended
        store.wait([f"left/{other}" for other in range(world)] if rank == 0 else ["never"], limit)


def _list(ranks: list[int]) -> str:
    """Returns the numbers as text, a range where they follow each other."""
    if len(ranks) > 1 and ranks == list(range(ranks[0], ranks[-1] + 1)):
        return f"{ranks[0]}-{ranks[-1]}"
    return ", ".join(map(str, ranks))


def _node() -> str:
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


if __name__ == "__main__":
    try:
        work()
    except ValueError as problem:
        print(problem, file=sys.stderr)  # noqa: T201 - the parent reads it
        sys.exit(_FAILED)
