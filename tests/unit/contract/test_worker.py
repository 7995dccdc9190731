"""Processes that fail together leave one message, and it is whole."""

from __future__ import annotations

import json
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from stages._contract.processes import FAILURE
from stages._contract.worker import leave_failure

if TYPE_CHECKING:
    from pathlib import Path

NUM_RANKS, NUM_TIMES = 4, 50


def fail(work: Path, rank: int, barrier: Any) -> None:
    for number in range(NUM_TIMES):
        (work / str(number)).mkdir(exist_ok=True)
        barrier.wait(timeout=30)
        leave_failure(work / str(number), ValueError(f"rank {rank}"))


def test_first_of_processes_that_fail_together_is_heard(tmp_path: Path) -> None:
    context = get_context("fork")
    barrier = context.Barrier(NUM_RANKS)
    ranks = [context.Process(target=fail, args=(tmp_path, i, barrier)) for i in range(NUM_RANKS)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0] * NUM_RANKS
    for number in range(NUM_TIMES):
        folder = tmp_path / str(number)
        assert [path.name for path in folder.iterdir()] == [FAILURE]
        message = json.loads((folder / FAILURE).read_text(encoding="utf-8"))["message"]
        assert message in {f"rank {rank}" for rank in range(NUM_RANKS)}


def test_message_that_is_there_stays(tmp_path: Path) -> None:
    for text in ("first", "second"):
        leave_failure(tmp_path, ValueError(text))
    assert json.loads((tmp_path / FAILURE).read_text(encoding="utf-8")) == {"message": "first"}
