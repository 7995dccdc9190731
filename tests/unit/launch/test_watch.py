"""What a user sees of a job's log."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages._launch.screen import Screen

ROOT = Path(__file__).parents[3]

if TYPE_CHECKING:
    import pytest


def test_log_is_shown_once_as_it_grows(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "7.log"
    screen = Screen("grpo", {"": log}, skip=False)
    screen.show_log()
    log.write_bytes("é".encode()[:1])
    screen.show_log()
    log.write_bytes("é\nb\n".encode())
    screen.show_log()
    screen.show_log()
    assert capfd.readouterr() == ("é\nb\n", "")


def test_logs_of_tasks_are_told_apart_line_by_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And of a progress bar there is what a terminal would keep."""
    logs = {f"[{task}] ": tmp_path / f"7_{task}.log" for task in (1, 2)}
    screen = Screen("generate", logs, skip=False)
    logs["[1] "].write_bytes(b"a\nhalf")
    logs["[2] "].write_bytes(b"\r 0%\r50%\r100%\r\nb\n")
    screen.show_log()
    assert capfd.readouterr().out == "[1] a\n[2] 100%\n[2] b\n"
    logs["[1] "].write_bytes(b"a\nhalf a line\n")
    screen.show_log()
    assert capfd.readouterr().out == "[1] half a line\n"


def test_long_log_of_a_job_that_is_found_is_shown_from_near_its_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "7.log"
    log.write_text("".join(f"line {n}\n" for n in range(10000)), encoding="utf-8")
    screen = Screen("grpo", {"": log}, skip=True)
    screen.show_log()
    shown = capfd.readouterr().out
    assert len(shown) == 4000
    assert shown.endswith("line 9998\nline 9999\n")


def test_state_is_said_again_only_when_it_changes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    screen = Screen("grpo", {"": tmp_path / "7.log"}, skip=False)
    for text in ("job 7 is PENDING", "job 7 is PENDING", "job 7 is RUNNING on n1"):
        screen.show_state(text)
    screen.say("done")
    assert capfd.readouterr().err.splitlines() == [
        "job 7 is PENDING",
        "job 7 is RUNNING on n1",
        "rederive: grpo: done",
    ]


def test_terminal_has_one_line_about_the_state_and_the_log_above_it(tmp_path: Path) -> None:
    log = tmp_path / "7.log"
    code = f"""
from pathlib import Path
from stages._launch.screen import Screen
screen = Screen("grpo", {{"": Path({str(log)!r})}}, skip=False)
screen.show_state("job 7 is PENDING")
screen.show_state("job 7 is RUNNING on n1")
Path({str(log)!r}).write_text("a\\nb\\n")
screen.show_log()
screen.show_state("job 7 is RUNNING on n1")
screen.say("done")
"""
    terminal, other_end = pty.openpty()
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, stdout=other_end, stderr=other_end, check=False)
    os.close(other_end)
    shown = os.read(terminal, 10000).decode()
    os.close(terminal)
    assert done.returncode == 0
    erase = "\r\x1b[K"
    assert shown == (
        f"{erase}job 7 is PENDING, 0:00{erase}job 7 is RUNNING on n1, 0:00{erase}a\r\nb\r\n"
        f"{erase}job 7 is RUNNING on n1, 0:00{erase}rederive: grpo: done\r\n"
    )
