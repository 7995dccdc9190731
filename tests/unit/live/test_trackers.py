"""Trackers get the figures of a run, by their own packages and without a network."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from stages._live.rows import Entry, write_entry

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-trackers/bin/python"
CONFIG = {"stage": "sft", "commit": "abc", "seed": 3, "params": {"learning_rate": 0.5}}
ENTRIES = [Entry(5, 100.0, {"loss": 0.5, "kl": 0.25}), Entry(10, 101.0, {"loss": 0.125})]


def track(folder: Path, trackers: list[str], **environment: str) -> str:
    """Tracks a run whose rows are all there, and returns what a user was told."""
    live = folder / "work/live"
    live.mkdir(parents=True, exist_ok=True)
    for entry in ENTRIES:
        write_entry(live / "sft.jsonl", entry)
    request: dict[str, Any] = {"name": "sft", "run": "sft-1", "config": CONFIG}
    request |= {"trackers": trackers, "log": "work/live/sft.jsonl", "parent": os.getpid()}
    env = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    done = subprocess.run(
        [PYTHON, "-m", "stages._live.trackers", json.dumps(request)],
        cwd=folder,
        env=env | {"TRACKIO_DIR": str(folder / "trackio")} | environment,
        input="\n",
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr


def read_back(folder: Path) -> dict[str, Any]:
    """Returns what the trackers have, as their own packages read it."""
    done = subprocess.run(
        [PYTHON, ROOT / "tests/unit/live/read_back.py", folder / "work/live"],
        env={**os.environ, "TRACKIO_DIR": str(folder / "trackio")},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_trackers_have_name_configuration_and_figures(tmp_path: Path) -> None:
    assert track(tmp_path, ["tensorboard", "trackio", "wandb"]) == ""
    found = read_back(tmp_path)
    assert sorted(found) == ["tensorboard", "trackio", "wandb"]
    for tracker, run in found.items():
        assert run["name"] == "sft-1", tracker
        assert {key: run["config"][key] for key in CONFIG} == CONFIG, tracker
        steps = {int(step): figures for step, figures in run["steps"].items()}
        assert steps == {entry.step: entry.figures for entry in ENTRIES}, tracker


def test_what_the_packages_print_is_of_this_run_alone(tmp_path: Path) -> None:
    log = tmp_path / "work/live/sft.trackers"
    log.parent.mkdir(parents=True)
    log.write_text("of an earlier run\n" * 1000)
    assert track(tmp_path, ["tensorboard"]) == ""
    assert "of an earlier run" not in log.read_text()


def test_tracker_that_fails_is_said_once_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    both = ["wandb", "tensorboard"]
    said = track(tmp_path, both, TENSORBOARD_LOGDIR="file/below", WANDB_MODE="x")
    assert said.count("\n") == 2
    assert "rederive: sft: wandb is left out: " in said
    assert "rederive: sft: tensorboard is left out: " in said
    (tmp_path / "second").mkdir()
    said = track(tmp_path / "second", both, WANDB_MODE="x")
    assert said.startswith("rederive: sft: wandb is left out: ")
    assert said.count("\n") == 1
    assert list(tmp_path.glob("second/work/live/tensorboard/sft-1/events*"))


def test_packages_are_asked_for_only_by_name() -> None:
    code = (
        "import sys, stages._live.trackers\n"
        "print(sorted({'wandb', 'trackio', 'tensorboardX', 'numpy', 'ruamel'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True
    )
    assert done.stdout == "[]\n"


def test_environment_has_the_locked_versions_and_they_fit_together() -> None:
    code = "from importlib.metadata import distributions as all\n"
    code += "print({found.name.lower(): found.version for found in all()})"
    done = subprocess.run([PYTHON, "-c", code], text=True, capture_output=True, check=True)
    installed = ast.literal_eval(done.stdout)
    lock = (ROOT / "containers/trackers.lock.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", lock))
    found = {re.sub(r"[-_.]+", "-", name): version for name, version in installed.items()}
    assert {name: found.get(name) for name in pins} == pins
    checked = subprocess.run(
        [PYTHON, "-m", "pip", "--disable-pip-version-check", "check"],
        text=True,
        capture_output=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
