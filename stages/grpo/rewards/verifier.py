"""Functions of text in worker processes, each call with hard limits on time and memory.

math-verify's own timeouts are signal handlers: 5 s of wall time for each of its steps, in the main
thread only, wherever Python next runs a handler. Here the kernel ends the process:

- CPU time, 0.5 s per item by default: an interval timer that kills the worker. Not wall time, so
  that a busy machine changes no verdict. The timer starts after imports and reading.
- Wall time, 20 times as much, for what waits instead of computing: the calling process kills.
- Memory: an allocation beyond 4 GiB more than at the start fails; files cannot be written.

Workers report item by item. If one is ended, the item in its hands has no value, None, and is
counted; the rest of its chunk goes to another worker, nothing twice. A worker that something else
ended (an operator, the kernel for want of memory) had an item that is tried once more first.

Workers are forks of a server process of their own (`forkserver`), which has the verifiers loaded:
neither torch nor threads nor signal handlers of the caller are in them, and a new one takes
milliseconds. They end with the calling process, however that ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import multiprocessing
import os
import resource
import signal
import threading
import time
import traceback
from collections import Counter, deque
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerProcess

T = TypeVar("T")
Pair = tuple[str, ...]
_Outcome = Literal["value", "memory", "refused", "error"]

CACHE_SIZE = 100_000  # values; a key is 32 bytes, whatever the length of the text
MEMORY_LIMIT = 4 << 30  # bytes of address space, on top of what a worker starts with
WALL_PER_CPU = 20
_CHUNK_SIZE = 16
_MAX_NUM_WORKERS = 8
_NUM_TRIES = 2  # of an item whose worker was ended by anything but the item's limits
# What items need is imported once, by the server: no limit counts an import.
_PRELOADED = (
    "stages.grpo.rewards.warm",
    "stages.grpo.rewards.procedural",
    "reasoning_gym",
)


@dataclass(frozen=True, slots=True)
class _Settings:
    num_workers: int
    timeout_s: float


@dataclass(slots=True)
class _Task:
    function: Callable[..., Any]
    pair: Pair
    value: Any = None
    num_tries: int = 0
    is_settled: bool = True  # False: None for now, as another run may have a value


@dataclass(slots=True)
class _Worker:
    process: ForkServerProcess
    connection: Connection
    chunk: deque[_Task] = field(default_factory=deque)  # sent, without a value yet
    deadline: float = 0.0  # of the chunk's first


_settings = _Settings(min(_MAX_NUM_WORKERS, len(os.sched_getaffinity(0))), 0.5)
_workers: list[_Worker] = []
_lock = threading.Lock()
_cache: LRUCache[bytes, Any] = LRUCache(CACHE_SIZE)
_counts: Counter[str] = Counter()


def compare(function: Callable[..., T], pairs: Sequence[Pair]) -> list[T | None]:
    """Returns `function(*pair)` of each pair, in order; None where it exceeds its limits.

    Equal pairs are computed once, and not again while the cache has them.

    Args:
        function: of a module's top level, deterministic, with results that pickle.
        pairs: tuples of str, such as (answer, reference).

    Raises:
        ValueError: the function raised one.
        RuntimeError: the function raised anything else, or a worker cannot work.
    """
    with _lock:
        keys = [_key(function, pair) for pair in pairs]
        new: dict[bytes, _Task] = {}
        values: dict[bytes, Any] = {}
        for key, pair in zip(keys, pairs, strict=True):
            if key in new or key in values:
                continue
            if key in _cache:
                values[key] = _cache[key]
            else:
                new[key] = _Task(function, pair)
        _counts.update(items=len(pairs), computed=len(new), reused=len(pairs) - len(new))
        if new:
            _compute(new.values())
        for key, task in new.items():
            values[key] = task.value
            if task.is_settled:
                _cache[key] = task.value
        return [values[key] for key in keys]


def configure(num_workers: int | None = None, timeout_s: float | None = None) -> None:
    """Sets the number of workers and the limit on an item's CPU time, in seconds.

    Workers that run end; None leaves a setting as it is. The defaults are 0.5 s, and one worker for
    each CPU that the process may use, at most 8.
    """
    global _settings  # noqa: PLW0603 - one pool per process, as one process has one GPU
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers must be >= 1, not {num_workers}: items need a worker")
    if timeout_s is not None and timeout_s <= 0:
        raise ValueError(f"timeout_s must be > 0, not {timeout_s}: an item needs some CPU time")
    stop()
    _settings = _Settings(num_workers or _settings.num_workers, timeout_s or _settings.timeout_s)


def counts() -> dict[str, int]:
    """Returns how many items there were so far, by what became of them.

    items = computed + reused; of the computed, `killed` exceeded a limit and `lost` had their
    worker ended twice by something else. `workers` is how many have been started.
    """
    names = ("items", "computed", "reused", "killed", "lost", "workers")
    return {name: _counts[name] for name in names}


def stop() -> None:
    """Ends the workers and empties the cache; the next call of `compare` starts new ones."""
    with _lock:
        _cache.clear()
        while _workers:
            _end(_workers[-1])


def _key(function: Callable[..., object], pair: Pair) -> bytes:
    digest = hashlib.sha256(f"{function.__module__}.{function.__qualname__}".encode())
    for text in pair:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()


def _compute(tasks: Iterable[_Task]) -> None:
    queue = deque(tasks)
    try:
        while queue or any(worker.chunk for worker in _workers):
            while len(_workers) < min(_settings.num_workers, len(queue)):
                _workers.append(_start())
            for worker in tuple(_workers):
                if queue and not worker.chunk:
                    # Ever smaller chunks, so that no worker waits for another's last one.
                    size = max(1, min(_CHUNK_SIZE, len(queue) // (4 * _settings.num_workers)))
                    _send(worker, [queue.popleft() for _ in range(size)], queue)
            _receive(queue)
    except BaseException:
        # An exception of a signal handler, too: an answer must not be read as a later question's.
        while _workers:
            _end(_workers[-1])
        raise


def _send(worker: _Worker, chunk: list[_Task], queue: deque[_Task]) -> None:
    worker.chunk.extend(chunk)
    worker.deadline = _deadline()
    try:
        worker.connection.send([(task.function, task.pair) for task in chunk])
    except (BrokenPipeError, ConnectionResetError):
        # It was ended while idle: no item of this chunk has anything to do with that.
        _end(worker)
        queue.extendleft(reversed(chunk))


def _receive(queue: deque[_Task]) -> None:
    busy = {worker.connection: worker for worker in _workers if worker.chunk}
    if not busy:
        return
    next_deadline = min(worker.deadline for worker in busy.values())
    for ready in connection.wait(list(busy), max(0.0, next_deadline - time.monotonic())):
        worker = busy[ready]  # type: ignore[index]
        try:
            outcome, value = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            _bury(worker, queue)
            continue
        _settle(worker.chunk.popleft(), outcome, value)
        worker.deadline = _deadline()
    for worker in tuple(_workers):  # not those that were buried just now
        if worker.chunk and worker.deadline <= time.monotonic() and not worker.connection.poll():
            _end(worker)
            _give_up(worker.chunk.popleft(), "killed")
            queue.extendleft(reversed(worker.chunk))


def _settle(task: _Task, outcome: _Outcome, value: Any) -> None:
    if outcome == "error":
        raise RuntimeError(f"{task.function.__qualname__} failed on {task.pair!r:.500}:\n{value}")
    if outcome == "refused":
        raise ValueError(value)
    if outcome == "memory":
        _give_up(task, "killed")
    else:
        task.value = value


def _bury(worker: _Worker, queue: deque[_Task]) -> None:
    # The worker is dead, or about to be: its first item was in its hands.
    worker.process.join(WALL_PER_CPU * _settings.timeout_s)
    code = worker.process.exitcode
    _end(worker)
    task = worker.chunk.popleft()
    queue.extendleft(reversed(worker.chunk))
    if code == -signal.SIGPROF:
        _give_up(task, "killed")
        return
    if code == 1:
        raise RuntimeError(
            f"a worker cannot work: check that {task.function.__module__} can be imported there"
        )
    task.num_tries += 1
    if task.num_tries < _NUM_TRIES:
        queue.appendleft(task)
    else:
        task.is_settled = False
        _give_up(task, "lost")


def _give_up(task: _Task, reason: str) -> None:
    task.value = None
    _counts[reason] += 1


def _deadline() -> float:
    return time.monotonic() + WALL_PER_CPU * _settings.timeout_s


def _start() -> _Worker:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_work,
        args=(theirs, _settings.timeout_s),
        name="verifier",
        daemon=True,
    )
    process.start()
    theirs.close()  # or the end of the worker would not end the pipe
    _counts["workers"] += 1
    return _Worker(process, ours)


def _end(worker: _Worker) -> None:
    _workers.remove(worker)
    worker.connection.close()
    worker.process.kill()
    worker.process.join()
    worker.process.close()


def _work(channel: Connection, timeout_s: float) -> None:
    # The whole life of a worker.
    _end_with_caller()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to handle
    for number in (signal.SIGTERM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    for module in _PRELOADED:  # the server does without what it cannot find in its folder
        importlib.import_module(module)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_LIMIT, size + MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            chunk = channel.recv()
        except (EOFError, ConnectionResetError):
            return
        for function, pair in chunk:
            signal.setitimer(signal.ITIMER_PROF, timeout_s)
            message = _call(function, pair)
            signal.setitimer(signal.ITIMER_PROF, 0)
            try:
                channel.send(message)
            except (BrokenPipeError, ConnectionResetError):
                return


def _end_with_caller() -> None:
    # The kernel ends the worker when the caller's end of a pipe closes: in an item, too. The death
    # of the parent says nothing: that is the server, which lives as long as its last worker.
    caller = multiprocessing.parent_process()
    if caller is None:
        raise RuntimeError("a worker must be started by verifier.compare")
    fcntl.fcntl(caller.sentinel, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(caller.sentinel, fcntl.F_GETFL)
    fcntl.fcntl(caller.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)  # SIGIO, which ends it
    if not caller.is_alive():
        os.kill(os.getpid(), signal.SIGIO)


def _call(function: Callable[..., Any], pair: Pair) -> tuple[_Outcome, Any]:
    try:
        return "value", function(*pair)
    except MemoryError:
        return "memory", None
    except ValueError as error:
        return "refused", str(error)
    except Exception:  # noqa: BLE001 - the caller raises it
        return "error", traceback.format_exc()


def _forget() -> None:
    # A fork of the caller must not read the answers to its questions.
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    for worker in _workers:
        worker.connection.close()
    _workers.clear()


os.register_at_fork(after_in_child=_forget)
