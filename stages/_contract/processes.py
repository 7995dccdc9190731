"""A stage's computation in several processes, which accelerate starts and connects.

Each runs `python -m stages._contract.worker`. Process 0 alone leaves something: what it returns
and noted goes through a file in the stage's work folder.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages._contract import manifest

if TYPE_CHECKING:
    from argparse import Namespace

Distributed = Literal["none", "ddp", "zero2", "zero3"]

CONFIGS = Path("stages/sft/accelerate")
RESULTS, FAILURE = "results.json", "failure.json"
_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_JOIN_S = 900  # until all nodes of a job must have come: images may be copied first


def check_processes(stage: str, distributed: Distributed, num_processes: int) -> None:
    """Checks the two parameters against one another. Raises ValueError naming the key."""
    if num_processes < 1:
        raise ValueError(f"{stage}.num_processes must be >= 1, not {num_processes}")
    if distributed == "none" and num_processes > 1:
        raise ValueError(
            f"{stage}.num_processes is {num_processes} and distributed is none: choose ddp, zero2 "
            f"or zero3, or set num_processes to 1"
        )
    if distributed == "ddp" and num_processes == 1:
        raise ValueError(
            f"{stage}.distributed is ddp for one process: set it to none, or raise num_processes"
        )


def is_distributed(values: Any) -> bool:
    """Returns whether accelerate must start the processes of a stage with these parameters."""
    return getattr(values, "distributed", "none") != "none"


def node_rank() -> int:
    """Returns which of the job's nodes this is, from 0; 0 outside of a job of several."""
    return int(os.environ.get("R1_NODE_RANK", "0"))


def run_processes(
    stage: str, cell: dict[str, str], values: Any, out: Path, work: Path
) -> dict[str, Any]:
    """Returns what the stage's `run` returns in process 0; on nodes other than the first, {}.

    Raises:
        ValueError: a process failed; the message is its own, or says how it ended.
    """
    # Only now: they import torch, which takes seconds, and most stages compute in this process.
    from accelerate.commands.launch import launch_command  # noqa: PLC0415
    from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: PLC0415
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415

    if node_rank() == 0:
        for name in (RESULTS, FAILURE):
            (work / name).unlink(missing_ok=True)
    for name in ("agent.server.api", "multiprocessing.api", "multiprocessing.errors"):
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
    # torchrun has its own, which stop the processes, and leaves them there.
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    received = None
    try:
        launch_command(parse_launch(stage, cell, values, out, work))
    except ChildFailedError as error:
        raise ValueError(_explain(error, work)) from error
    except SignalException as error:
        received = error.sigval
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if received is not None:
        signal.raise_signal(received)
    if node_rank() > 0:
        return {}
    found = json.loads((work / RESULTS).read_text(encoding="utf-8"))
    manifest.note(**found["facts"])
    results: dict[str, Any] = found["results"]
    return results


def parse_launch(stage: str, cell: dict[str, str], values: Any, out: Path, work: Path) -> Namespace:
    """Returns the arguments of `accelerate launch`.

    Raises:
        ValueError: the processes cannot be spread evenly over the job's nodes.
    """
    from accelerate.commands.launch import launch_command_parser  # noqa: PLC0415 - as above

    num_nodes = int(os.environ.get("R1_NUM_NODES", "1"))
    if values.num_processes % num_nodes:
        raise ValueError(
            f"{stage}.num_processes is {values.num_processes}, and the job has {num_nodes} nodes: "
            f"each must get as many processes"
        )
    options: dict[str, Any] = {
        "config_file": CONFIGS / f"{values.distributed}.yaml",
        "num_processes": values.num_processes,
        "num_machines": num_nodes,
        "machine_rank": node_rank(),
        "main_process_ip": os.environ.get("MASTER_ADDR", "127.0.0.1"),
        "main_process_port": os.environ.get("MASTER_PORT", "0"),
        "num_cpu_threads_per_process": values.num_threads,
        "mixed_precision": "no",  # the trainer's bf16 says it
        "rdzv_backend": "static",
        "rdzv_conf": f"timeout={_JOIN_S}",
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    worker = [stage, json.dumps(cell), str(out), str(work)]
    parsed: Namespace = launch_command_parser().parse_args(
        [*words, "--same_network", "--module", "stages._contract.worker", *worker]
    )
    return parsed


def _explain(error: Any, work: Path) -> str:
    """Returns what the first process to fail has left, or else how it ended."""
    try:
        return str(json.loads((work / FAILURE).read_text(encoding="utf-8"))["message"])
    except FileNotFoundError:
        rank, failure = error.get_first_failure()
        code = failure.exitcode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return (
            f"process {rank} {how}, and the others were stopped: its traceback is above, if it "
            f"had time for one; after SIGKILL, see whether memory ran out"
        )
