"""Runs one stage: the only place that knows environment, clock, paths of outputs and exit codes."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages._contract import manifest, params
from stages._contract.artifacts import check_model, publish, sha256_file, sha256_tree, write_json
from stages._contract.code import hash_code
from stages._contract.determinism import CUBLAS_WORKSPACE, CUBLAS_WORKSPACE_SIZES, limit_cpu
from stages._contract.places import metrics_of, name_of, out_of
from stages._contract.processes import is_distributed, node_rank, run_processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

PARAMS = Path("params.yaml")
_ONLINE = ("fetch", "prompts")  # the others work on what these two have pinned
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# As safetensors and torch say it, whose errors are no OSError.
_NO_SPACE_TEXT = re.compile(
    rf"os error ({'|'.join(map(str, _NO_SPACE))})\b|PytorchStreamWriter failed|iostream error"
)
# As malloc.h numbers them.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_INTERRUPTED, _TERMINATED = 130, 143  # as shells say it: 128 + signal


class _Terminated(BaseException):
    """SIGTERM: from a scheduler at its time limit, or a user's kill."""


def run_stage(stage: str, cell: dict[str, str], part: tuple[int, int] | None = None) -> int:
    """Runs a stage's cell and returns the exit status; {} is the cell of a stage that has one.

    Status 0: out, metrics and manifest are there. Otherwise none of them has changed, and one line
    on stderr says why; a bug still gives a traceback. What is left is the moment in which the three
    are put in place: SIGKILL, or a disk that is full even for the metrics, may part them then.

    Args:
        stage: its name.
        cell: its cell (places.py).
        part: (index from 0, number of parts): only this share of the work is done, and left where
            a run without a part finds it. Nothing is published.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        if part is None:
            _run(stage, cell)
        else:
            _fill(stage, cell, *part)
    except (ValueError, FileNotFoundError) as error:
        return _fail(stage, str(error), 1, error)
    except Exception as error:
        cause = _find_no_space(error)
        if cause is None:
            raise
        return _fail(stage, f"{cause}: free some disk space and run again", 1, error)
    except KeyboardInterrupt as error:
        return _fail(stage, "interrupted; nothing half-written was kept", _INTERRUPTED, error)
    except _Terminated as error:
        return _fail(stage, "terminated; nothing half-written was kept", _TERMINATED, error)
    return 0


def _find_no_space(error: BaseException | None) -> str | None:
    """Returns what the system said if the error, or one that led to it, is about a full disk."""
    while error is not None:
        text = str(error).partition("\n")[0]
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            return text
        if _NO_SPACE_TEXT.search(text):
            return text
        error = error.__context__
    return None


def _terminate(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise _Terminated


def _fail(stage: str, message: str, status: int, error: BaseException) -> int:
    if os.environ.get("R1_TRACEBACK"):
        raise error
    print(f"rederive: {stage}: {message}", file=sys.stderr)  # noqa: T201 - this is the message
    return status


def _run(stage: str, cell: dict[str, str]) -> None:
    start = datetime.now(UTC)
    values, inputs, digests, work = _prepare(stage, cell)
    out, metrics = out_of(stage, cell), metrics_of(stage, values, cell)
    if node_rank() > 0:  # the first node publishes
        run_processes(stage, cell, values, out, work)
        return
    name = name_of(stage, cell)
    with ExitStack() as last:
        with publish(out) as folder:
            if is_distributed(values):
                results = run_processes(stage, cell, values, folder, work)
            else:
                module = importlib.import_module(f"stages.{stage}.stage")
                results = module.run(values, inputs, folder, work)
            assert results.keys() == metrics.keys(), f"{stage} returned metrics {sorted(results)}"
            _check_finite(stage, results)
            outputs = {str(out): sha256_tree(folder)}  # takes long for a large model
            last.enter_context(_undisturbed())
        for which, path in metrics.items():
            write_json(path, results[which])
        manifest.write(Path("runs", f"{name}.json"), start, PARAMS, digests, outputs, work)
        # Older keys too: the result is there. Renamed first, so that a kill leaves no half of it to
        # the next run.
        ended = work.parent.with_name(f".{name}.ended")
        shutil.rmtree(ended, ignore_errors=True)
        work.parent.rename(ended)
        shutil.rmtree(ended)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignores Ctrl-C and SIGTERM while output, metrics and manifest appear and the work goes."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fill(stage: str, cell: dict[str, str], index: int, num_parts: int) -> None:
    module = importlib.import_module(f"stages.{stage}.stage")
    if not hasattr(module, "fill"):
        raise ValueError(f"{stage} does its work in one piece: run it without --part")
    values, inputs, _, work = _prepare(stage, cell)
    module.fill(values, inputs, work, index, num_parts)


def _prepare(stage: str, cell: dict[str, str]) -> tuple[Any, Any, dict[str, str], Path]:
    """Returns the parameters, the inputs, their digests, and the work folder of these and the code.

    All parts and all nodes of a job find the same folder.
    """
    values = params.load_cell(PARAMS, stage, cell)
    inputs = importlib.import_module(f"stages.{stage}.params").inputs(values, cell)
    digests = _hash_inputs(inputs)
    name = name_of(stage, cell)
    key = json.dumps([name, repr(values), digests, hash_code(stage, values.image)])
    work = Path("work", name, hashlib.sha256(key.encode()).hexdigest()[:16])
    work.mkdir(parents=True, exist_ok=True)
    set_environment(stage, values)
    return values, inputs, digests, work


def _hash_inputs(inputs: Any) -> dict[str, str]:
    """Returns sha256 by path. Raises FileNotFoundError, or ValueError for a corrupted model."""
    digests = {}
    for field in fields(inputs):
        value = getattr(inputs, field.name)
        for path in value if isinstance(value, list) else [value]:
            if path is None:
                continue
            if not path.exists():
                raise FileNotFoundError(
                    f"{path} ({field.name}) is not there: `dvc repro` makes what stages make, "
                    f"`git checkout` restores the rest"
                )
            if field.name in {"model", "reward_models"}:
                check_model(path)
            digests[str(path)] = sha256_tree(path) if path.is_dir() else sha256_file(path)
    return digests


def set_environment(stage: str, values: Any) -> None:
    """Sets what libraries read when they are imported."""
    os.environ.update(
        TOKENIZERS_PARALLELISM="false",
        VLLM_NO_USAGE_STATS="1",
        DO_NOT_TRACK="1",
        HF_HUB_DISABLE_TELEMETRY="1",
    )
    # Threads that wait for each other sleep: spinning beside a busy process costs several times
    # the time, and sleeping on an idle machine a few percent.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if values.image == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"  # else DeepSpeed looks for GPUs, and says so
    os.environ[CUBLAS_WORKSPACE] = CUBLAS_WORKSPACE_SIZES
    if stage not in _ONLINE:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if hasattr(values, "num_threads"):
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(values.num_threads)
        limit_cpu(values.cpu_isa)
        _keep_memory()


def _keep_memory() -> None:
    """Makes malloc keep what was freed for the next tensor.

    Else a step of training gives gigabytes back to the system, and gets them anew, page by page.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc; others do without
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _check_finite(key: str, value: Any) -> None:
    if isinstance(value, dict):
        for name, entry in value.items():
            _check_finite(f"{key}.{name}", entry)
    elif isinstance(value, float) and not abs(value) < float("inf"):  # nan is not below either
        raise ValueError(f"the metric {key} is {value}: training diverged or had nothing to count")
