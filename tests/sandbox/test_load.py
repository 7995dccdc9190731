"""Hundreds of programs at once: all right, in order, and never too many at a time."""

from __future__ import annotations

import threading

import pytest

from stages.grpo.rewards import sandbox
from stages.grpo.rewards.sandbox import Limits, Program, Result, map_parallel, python_program, run

pytestmark = pytest.mark.sandbox

NUM = 200
NUM_PARALLEL = 4


def test_two_hundred_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, live, peak = threading.Lock(), 0, 0

    def counting(program: Program) -> Result:
        nonlocal live, peak
        with lock:
            live += 1
            peak = max(peak, live)
        try:
            return run(program)
        finally:
            with lock:
                live -= 1

    monkeypatch.setattr(sandbox, "run", counting)
    sources = [
        f"print(int(input()) * {i})" if i % 10 else f"import sys; sys.exit({i % 7})"
        for i in range(NUM)
    ]
    programs = [python_program(source, b"3") for source in sources]
    results = sandbox.run_all(programs, NUM_PARALLEL)
    for i, result in enumerate(results):
        expected = (0, b"%d\n" % (3 * i)) if i % 10 else (i % 7, b"")
        assert (result.status, result.stdout) == expected
    assert peak == NUM_PARALLEL


def test_a_program_that_hangs_holds_up_no_other() -> None:
    hangs = python_program("while True: pass", b"", Limits(cpu_s=1.0))
    others = [python_program(f"print({i})") for i in range(30)]
    results = map_parallel(run, [hangs, *others], NUM_PARALLEL)
    assert results[0].reason == "cpu"
    assert [result.stdout for result in results[1:]] == [b"%d\n" % i for i in range(30)]
