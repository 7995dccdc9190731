"""How an array has ended, by what `scontrol` prints, said by a program in its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stages._launch.outcome import judge
from stages._launch.screen import Screen
from stages._launch.watch import NUM_SHOWN, LeftError, Signals, Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

LINE = "JobId=1{task} ArrayJobId=9 ArrayTaskId={task} JobState={state} Reason=None Restarts=0 "
LINE += "ExitCode={status}:0 NodeList=n{task}"


def judge_array(folder: Path, num_tasks: int, lines: Iterable[str]) -> int:
    """Returns the status of job 9 with that many tasks, when Slurm says these lines of it."""
    program = folder / "scontrol"
    text = "\n".join(lines)
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n", encoding="utf-8")
    program.chmod(0o755)
    signals = Signals()
    screen = Screen("generate", {}, skip=False)
    return judge(Watch("9", num_tasks, 0.01, screen, signals), folder, screen, signals)


def leave_status(folder: Path, task: int, status: int, restarts: int = 0) -> None:
    """Writes what a task's script leaves."""
    (folder / f"9_{task}.{restarts}.status").write_text(f"{status}\n", encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a folder for the array's files, whose programs come first."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_first_failed_tasks_are_named_and_the_others_counted(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for task in range(1, 9):
        leave_status(folder, task, 3 if task > 1 else 0)
    done = LINE.format(task=1, state="COMPLETED", status=0)
    failed = [LINE.format(task=task, state="FAILED", status=3) for task in range(2, 9)]
    assert judge_array(folder, 8, [done, *failed]) == 3
    lines = capfd.readouterr().err.splitlines()
    assert sum("; the other tasks go on" in line for line in lines) == NUM_SHOWN
    assert sum("with status 3: what it said is above" in line for line in lines) == NUM_SHOWN
    assert "rederive: job 9: 0 pending, 0 running, 1 done, 7 failed" in lines
    assert lines[-1].startswith("rederive: generate: 7 of 8 tasks failed; what is done is kept")


def test_tasks_that_slurm_has_forgotten_are_judged_by_what_they_left(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It forgets each by itself, some minutes after its end."""
    for task in (1, 2, 3):
        leave_status(folder, task, 0)
    last = LINE.format(task=3, state="COMPLETED", status=0)
    assert judge_array(folder, 3, [last]) == 0
    leave_status(folder, 2, 5, restarts=1)
    assert judge_array(folder, 3, [last]) == 5
    assert f"job 9_2 ended with status 5; see {folder}/9_2.log" in capfd.readouterr().err
    (folder / "9_1.0.status").unlink()
    with pytest.raises(ValueError, match="Slurm does not know job 9_1 any more, and it left no st"):
        judge_array(folder, 3, [last])


@pytest.mark.parametrize(
    ("said", "numbers"), [("", []), ("cancel\n", [15]), ("leave\n", None), (None, [])]
)
def test_launcher_hears_what_the_controller_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, numbers: list[int] | None
) -> None:
    monkeypatch.setenv("R1_CONTROLLER_STOP", str(tmp_path / "asked"))
    if said is not None:
        (tmp_path / "asked").write_text(said, encoding="utf-8")
    signals = Signals()
    if numbers is None:
        with pytest.raises(LeftError):
            signals.ask_controller()
        return
    for _ in range(2):
        signals.ask_controller()
    assert signals.numbers == numbers
