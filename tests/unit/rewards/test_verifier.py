"""No item stalls the caller, takes another's value with it, or survives its worker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path

import pytest

from stages.grpo.rewards import verifier
from stages.grpo.rewards.accuracy import _agrees

TIMEOUT_S = 0.5


def _double(text: str) -> str:
    return 2 * text


def _sleep(text: str, seconds: str) -> str:
    time.sleep(float(seconds))
    return text


def _power(base: str, exponent: str) -> int:
    return int(int(base) ** int(exponent)).bit_length()


def _allocate(size: str) -> int:
    return len(bytearray(int(size)))


def _write(path: str) -> str:
    try:
        Path(path).write_text("a")
    except OSError as error:
        return type(error).__name__
    return "written"


def _end_worker(marker: str) -> str:
    # A folder marks the first try, as files cannot be written.
    if marker and Path(marker).exists():
        return "second try"
    if marker:
        Path(marker).mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def _refuse(text: str) -> str:
    raise ValueError(f"no {text}")


def _fail(text: str) -> str:
    raise KeyError(text)


def _has_module(name: str) -> bool:
    return name in sys.modules


def _handler(number: str) -> str:
    return str(signal.getsignal(int(number)))


@pytest.fixture(autouse=True, scope="module")
def _pool() -> Iterator[None]:
    default = verifier._settings
    verifier.configure(num_workers=2, timeout_s=TIMEOUT_S)
    yield
    verifier.configure(default.num_workers, default.timeout_s)


@pytest.fixture
def counts() -> Callable[..., list[int]]:
    """Returns what reads counts, since the test began, by their names."""
    before = verifier.counts()
    return lambda *names: [verifier.counts()[name] - before[name] for name in names]


def test_values_are_in_order() -> None:
    pairs = [(str(n), "0.1" if n % 5 == 0 else "0") for n in range(20)]
    assert verifier.compare(_sleep, pairs) == [str(n) for n in range(20)]
    assert verifier.compare(_double, []) == []


def test_equal_pairs_are_computed_once(counts: Callable[..., list[int]]) -> None:
    verifier.stop()
    pairs = [("a", "0"), ("b", "0"), ("a", "0")]
    assert verifier.compare(_sleep, pairs) == ["a", "b", "a"]
    assert counts("items", "computed", "reused") == [3, 2, 1]
    assert verifier.compare(_sleep, pairs) == ["a", "b", "a"]
    assert counts("items", "computed", "reused") == [6, 2, 4]
    verifier.stop()
    assert verifier.compare(_sleep, pairs[:1]) == ["a"]
    assert counts("computed") == [3]


def test_cache_tells_functions_and_bounds_of_texts_apart() -> None:
    assert verifier.compare(_double, [("a",)]) == ["aa"]
    assert verifier.compare(_has_module, [("a",)]) == [False]
    keys = [verifier._key(_sleep, pair) for pair in [("ab", "c"), ("a", "bc"), ("abc",), ("a",)]]
    assert len({*keys, verifier._key(_double, ("a",))}) == 5
    assert {len(key) for key in keys} == {32}
    assert verifier._cache.maxsize == 100_000


def test_stuck_items_alone_have_no_value(counts: Callable[..., list[int]]) -> None:
    pairs = [("2", str(n)) for n in range(40)]
    for n in (3, 4, 29):
        pairs[n] = ("7", f"{10**10 + n}")  # minutes, and gigabytes
    values = verifier.compare(_power, pairs)
    assert values == [None if n in {3, 4, 29} else n + 1 for n in range(40)]
    assert counts("computed", "killed", "lost") == [40, 3, 0]
    assert verifier.compare(_power, pairs[:4]) == [1, 2, 3, None]  # not tried again
    assert counts("killed") == [3]


def test_waiting_is_no_computing() -> None:
    assert verifier.compare(_sleep, [("a", "0.8")]) == ["a"]


def test_item_that_waits_for_ever_is_ended(
    counts: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "WALL_PER_CPU", 4)
    pairs = [("a", "0"), ("b", "600"), ("c", "0"), ("d", "0")]
    assert verifier.compare(_sleep, pairs) == ["a", None, "c", "d"]
    assert counts("killed") == [1]


def test_memory_and_files_are_limited(counts: Callable[..., list[int]], tmp_path: Path) -> None:
    sizes = [("1000",), (str(verifier.MEMORY_LIMIT + 1),)]
    assert verifier.compare(_allocate, sizes) == [1000, None]
    assert counts("killed") == [1]
    assert verifier.compare(_write, [(str(tmp_path / "a"),)]) == ["OSError"]
    assert (tmp_path / "a").read_bytes() == b""


def test_item_whose_worker_is_killed_is_tried_once_more(
    counts: Callable[..., list[int]], tmp_path: Path
) -> None:
    pairs = [("",), (str(tmp_path / "a"),), (str(tmp_path / "b"),)]
    assert verifier.compare(_end_worker, pairs) == [None, "second try", "second try"]
    assert counts("killed", "lost") == [0, 1]
    assert verifier.compare(_end_worker, pairs[:2]) == [None, "second try"]
    # What was lost is computed again, what has a value is not.
    assert counts("computed", "lost") == [4, 2]


def test_worker_that_ends_when_its_time_is_up(counts: Callable[..., list[int]]) -> None:
    """It is buried, and nobody looks into its closed connection for a value that came in time."""
    verifier.stop()
    tasks = [verifier._Task(_double, (text,)) for text in ("a", "b")]
    worker = verifier._start()
    worker.chunk.extend(tasks)
    verifier._workers.append(worker)
    os.kill(worker.process.pid or 0, signal.SIGKILL)
    worker.process.join()
    queue: deque[verifier._Task] = deque()
    verifier._receive(queue)
    assert list(queue) == tasks
    assert verifier._workers == []
    assert counts("killed", "lost") == [0, 0]


def test_idle_worker_that_is_killed_costs_nothing(counts: Callable[..., list[int]]) -> None:
    verifier.compare(_sleep, [(str(n), "0.01") for n in range(8)])
    assert len(verifier._workers) == 2
    for worker in verifier._workers:
        os.kill(worker.process.pid or 0, signal.SIGKILL)
    time.sleep(0.1)
    assert verifier.compare(_double, [("1",), ("2",), ("3",)]) == ["11", "22", "33"]
    assert counts("killed", "lost") == [0, 0]


def test_server_that_is_killed_is_started_again(counts: Callable[..., list[int]]) -> None:
    verifier.compare(_double, [("0",)])
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(server, signal.SIGKILL)
    os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)  # a dying one is still taken for alive
    assert verifier.compare(_double, [("3",)]) == ["33"]  # the workers live
    verifier.stop()
    assert verifier.compare(_double, [("4",), ("5",)]) == ["44", "55"]
    assert forkserver._forkserver._forkserver_pid != server  # type: ignore[attr-defined]
    assert counts("killed", "lost") == [0, 0]


def test_errors_are_the_callers() -> None:
    with pytest.raises(ValueError, match="^no a$"):
        verifier.compare(_refuse, [("a",)])
    with pytest.raises(RuntimeError, match=r"_fail failed on \('a',\):\n(?s:.*)KeyError: 'a'"):
        verifier.compare(_fail, [("a",)])
    assert verifier.compare(_double, [("6",)]) == ["66"]


def test_exception_of_a_signal_handler_leaves_no_answer_behind() -> None:
    def interrupt(number: int, _frame: object) -> None:
        raise SystemExit(number)

    old = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(SystemExit):
            verifier.compare(_sleep, [("old", "0.5"), ("older", "0.5")])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert verifier.compare(_sleep, [("new", "0"), ("newer", "0")]) == ["new", "newer"]


def test_workers_have_neither_handlers_nor_torch() -> None:
    verifier.stop()
    old = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        handlers = verifier.compare(_handler, [(str(int(signal.SIGTERM)),)])
    finally:
        signal.signal(signal.SIGTERM, old)
    assert handlers == ["0"]  # SIG_DFL
    assert verifier.compare(_handler, [(str(int(signal.SIGINT)),)]) == ["1"]  # SIG_IGN
    modules = [("math_verify",), ("reasoning_gym",), ("torch",), ("transformers",)]
    assert verifier.compare(_has_module, modules) == [True, True, False, False]


def test_threads_may_compare_at_once() -> None:
    values: dict[int, list[str | None]] = {}

    def compare(n: int) -> None:
        values[n] = verifier.compare(_sleep, [(f"{n}-{i}", "0.01") for i in range(5)])

    threads = [threading.Thread(target=compare, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == {n: [f"{n}-{i}" for i in range(5)] for n in range(3)}


def test_fork_of_the_caller_reads_nothing_of_its_workers() -> None:
    verifier.compare(_double, [("7",), ("8",)])
    pid = os.fork()
    if pid == 0:
        os._exit(len(verifier._workers))
    assert os.waitpid(pid, 0)[1] == 0
    assert verifier.compare(_double, [("9",)]) == ["99"]


CALLER = """
from stages.grpo.rewards import verifier
from tests.unit.rewards.test_verifier import _power, _sleep
verifier.configure(num_workers=2, timeout_s=60)
verifier.compare(_power, [("2", "3"), ("2", "4")])
print(*[worker.process.pid for worker in verifier._workers], flush=True)
verifier.compare(_power, [("7", "10000000000"), ("7", "10000000001")])
"""


def test_workers_end_with_a_caller_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", CALLER], stdout=subprocess.PIPE) as caller:
        assert caller.stdout is not None
        pids = [int(pid) for pid in caller.stdout.readline().split()]
        time.sleep(0.3)  # they compute now
        assert pids
        assert all(_is_running(pid) for pid in pids)
        caller.kill()
    deadline = time.monotonic() + 5
    while any(_is_running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


HOSTILE = {
    "tower": r"\boxed{9^{9^{9^{9}}}}",
    "power of ten": r"\boxed{10^{10^{10}}}",
    "factorial": r"\boxed{(10^9)!}",
    "factorials": r"\boxed{99!!!!!}",
    "fractions": "\\boxed{" + "\\frac{1}{" * 1000 + "2" + "}" * 1000 + "}",
    "roots": "\\boxed{" + "\\sqrt{" * 1000 + "2" + "}" * 1000 + "}",
    "brackets": "\\boxed{" + "(" * 3000 + "1" + ")" * 3000 + "}",
    "open brackets": "\\boxed{" + "(" * 5000 + "}",
    "minuses": "\\boxed{" + "-" * 5000 + "3}",
    "dollars": r"\[ \( $$ $ " * 700 + r"\boxed{3}",
    "digits": "\\boxed{" + "9" * 1_000_000 + "}",
    "text": "a" * 1_000_000,
    "nulls": "\\boxed{" + "\0" * 1000 + "3}",
    "surrogates": "\\boxed{\ud800\udfff}",
    "fullwidth": r"\boxed{３}",
    "Cyrillic": r"\boxed{е}",
    "superscripts": r"\boxed{9⁹⁹⁹⁹}",
    "integral": r"\boxed{\int_0^1 e^{x^{x^{x}}} dx}",
    "sum": r"\boxed{\sum_{n=1}^{10^{12}} \frac{1}{n^n}}",
    "polynomial": r"\boxed{(x+1)^{10000000}}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_are_not_correct_and_end_in_time(name: str) -> None:
    gold = r"$\sqrt{2}$"
    verifier.compare(_agrees, [(r"\boxed{1}", gold)])  # starts the workers
    start = time.monotonic()
    values = verifier.compare(_agrees, [(HOSTILE[name], gold), (r"\boxed{\sqrt{2}}", gold)])
    # About TIMEOUT_S if nothing else runs; this is what holds on a busy machine, too.
    assert time.monotonic() - start < verifier.WALL_PER_CPU * TIMEOUT_S
    assert values[0] in {False, None}
    assert values[1] is True


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_workers": 0}, "num_workers must be >= 1, not 0"),
     ({"timeout_s": 0.0}, "timeout_s must be > 0, not 0.0")],
)  # fmt: skip
def test_settings_have_bounds(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        verifier.configure(**settings)  # type: ignore[arg-type]


def test_default_is_half_a_second_and_a_worker_per_cpu() -> None:
    code = "from stages.grpo.rewards import verifier as v; print(v._settings)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    num = min(8, len(os.sched_getaffinity(0)))
    assert done.stdout == f"_Settings(num_workers={num}, timeout_s=0.5)\n"
