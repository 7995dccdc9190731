"""A stage is shown by another process, which can neither end it nor lose what it says."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import pytest

from stages._live import show
from stages._live.screens import PlainScreen
from tests.demo import PARAMS, make_demo, write_stage

ROOT = Path(__file__).parents[3]
BAR = "\\r 33%|███▎      | 1/3 [00:15<00:30, 15.71s/it]"
STEPS = f"""
import sys
for step in (1, 2, 3):
    print("{BAR}", end="", file=sys.stderr, flush=True)
    print({{"loss": f"0.{{step}}", "num_tokens": "100", "epoch": "1"}})
    time.sleep(0.5)
print("", file=sys.stderr)
return {{"demo": {{}}}}
"""
KILL_READER = """
import pathlib, signal, sys
children = pathlib.Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
os.kill(int(children[0]), signal.SIGKILL)
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Returns a repository with a stage that logs each step, still without its stage.py."""
    make_demo(tmp_path)
    fields = "    size: int\n    logging_steps: int\n    num_processes: int\n"
    (tmp_path / "stages/demo/params.py").write_text(PARAMS.replace("    size: int\n", fields))
    values = (tmp_path / "params.yaml").read_text()
    more = "  size: 3\n  logging_steps: 1\n  num_processes: 1\n"
    (tmp_path / "params.yaml").write_text(values.replace("  size: 3\n", more))
    return tmp_path


def start(repo: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "stages", "run", "demo"],
        cwd=repo,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Returns the exit status, and all that was shown on stdout and stderr."""
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def without_times(text: str) -> list[str]:
    return [re.sub(r"\d+:\d\d elapsed", "T elapsed", line) for line in text.splitlines()]


def test_text_stays_on_its_stream(repo: Path) -> None:
    body = """
    import sys
    print("out 1")
    print("err 1", file=sys.stderr)
    os.system("echo out 2; echo err 2 >&2")
    print("no end", end="")
    return {"demo": {}}
    """
    write_stage(repo, body)
    assert finish(start(repo)) == (0, "out 1\nout 2\nno end", "err 1\nerr 2\n")


def test_steps_are_lines_and_a_live_log(repo: Path) -> None:
    write_stage(repo, STEPS)
    status, stdout, stderr = finish(start(repo))
    assert (status, stdout) == (0, "")
    assert without_times(stderr) == [
        f"demo: step {step}/3, T elapsed, 0:{left} left, loss 0.{step}"
        for step, left in zip((1, 2, 3), re.findall(r"0:(\d\d) left", stderr), strict=True)
    ]
    lines = (repo / "work/live/demo.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [(row["step"], row["loss"], row["num_tokens"]) for row in rows] == [
        (1, 0.1, 100.0),
        (2, 0.2, 100.0),
        (3, 0.3, 100.0),
    ]
    raw = (repo / "work/live/demo.stdout").read_text()
    assert raw.count("'loss'") == 3


def test_raw_is_what_the_stage_prints(repo: Path) -> None:
    write_stage(repo, STEPS)
    status, stdout, stderr = finish(start(repo, R1_PROGRESS="raw"))
    assert status == 0
    assert stdout.splitlines()[0] == "{'loss': '0.1', 'num_tokens': '100', 'epoch': '1'}"
    assert stderr == BAR.replace("\\r", "\n") * 3 + "\n"
    assert not (repo / "work/live").exists()


def test_wrong_setting_is_one_line_and_nothing_runs(repo: Path) -> None:
    write_stage(repo, STEPS)
    assert finish(start(repo, R1_PROGRESS="plian")) == (
        1,
        "",
        "rederive: demo: R1_PROGRESS: unknown word 'plian': did you mean 'plain'?\n",
    )
    assert not (repo / "work").exists()


def test_stage_outlives_its_reader_and_nothing_is_lost(repo: Path) -> None:
    write_stage(repo, KILL_READER + 'print("after")\nsys.exit("said last")')
    status, stdout, stderr = finish(start(repo))
    assert (status, stdout) == (1, "after\n")
    assert stderr.splitlines() == [
        "rederive: demo: the display ended with -9; all that the stage printed:",
        "said last",
    ]


def test_reader_that_nobody_hears_does_not_end_the_stage(repo: Path) -> None:
    write_stage(repo, 'import sys\ntime.sleep(1)\nprint("x", file=sys.stderr)\n' + STEPS)
    process = start(repo)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    process.stderr.close()
    process.wait(60)
    assert (repo / "runs/demo.json").exists()


def test_display_that_fails_is_said_once_and_the_rest_is_raw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(PlainScreen, "show_step", lambda *_: 1 / 0)
    rows = "{'loss': '0.5'}\n{'loss': '0.25'}\ntext\n"
    (tmp_path / "sft.stdout").write_text(rows)
    (tmp_path / "sft.stderr").write_text("text\n")
    request = {"name": "sft", "stage": "sft", "cell": {}, "progress": "plain", "folder": "."}
    shown = show.Show(request)
    shown.end()
    stdout, stderr = capfd.readouterr()
    assert stdout == rows
    problem = "the display has failed, and is left out: ZeroDivisionError: division by zero"
    assert stderr == f"text\nrederive: sft: {problem}\n"
    lines = (tmp_path / "sft.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_killed_stage_was_shown_to_its_end(repo: Path) -> None:
    write_stage(repo, 'print("before")\nos.kill(os.getpid(), 9)')
    assert finish(start(repo)) == (-9, "before\n", "")


def test_traceback_is_shown(repo: Path) -> None:
    write_stage(repo, 'raise KeyError("oops")')
    status, _, stderr = finish(start(repo))
    assert status == 1
    assert stderr.splitlines()[-1] == "KeyError: 'oops'"


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_signal_to_all_processes_is_the_stage_s(
    repo: Path, number: signal.Signals, status: int, word: str
) -> None:
    """As a terminal's Ctrl-C, and a scheduler's SIGTERM, reach them."""
    write_stage(repo, '(work / "ready").touch()\ntime.sleep(60)')
    process = start(repo)
    deadline = time.monotonic() + 30
    while not list(repo.glob("work/demo/*/ready")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, number)
    said = f"rederive: demo: {word}; nothing half-written was kept\n"
    assert finish(process) == (status, "", said)


def test_stage_runs_where_no_file_can_be_written_for_the_display(repo: Path) -> None:
    write_stage(repo, 'print("x")\nreturn {"demo": {}}')
    (repo / "work").mkdir()
    (repo / "work/live").touch()
    status, stdout, stderr = finish(start(repo))
    assert (status, stdout) == (0, "x\n")
    said = "rederive: demo: [Errno 17] File exists: 'work/live': it runs without a display\n"
    assert stderr == said


def test_full_disk_is_said_although_the_log_cannot_hold_it(repo: Path) -> None:
    body = """
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    raise ValueError("anything")
    """
    write_stage(repo, textwrap.dedent(body))
    status, _, stderr = finish(start(repo))
    assert status == 1
    assert stderr.splitlines() == [
        "rederive: demo: anything",
        "rederive: demo: [Errno 27] File too large: free some disk space and run again",
    ]


def test_terminal_has_a_bar_and_the_figures(repo: Path) -> None:
    write_stage(repo, STEPS.replace("time.sleep(0.5)", "time.sleep(1)"))
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "stages", "run", "demo"],
        cwd=repo,
        env={**os.environ, "TERM": "xterm-256color"},
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(controller, 2**16):
            shown += chunk
    except OSError:  # the last process has closed it
        pass
    os.close(controller)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "━" in text
    assert re.search(r"demo  step \d/3  [━╸╺]+ +\d:\d\d elapsed, \d:\d\d left", text)
    assert text.rstrip().endswith("demo  step 3/3  loss 0.3")
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h") == 1  # the cursor is back
    assert "'loss'" not in text
