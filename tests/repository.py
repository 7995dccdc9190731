"""A repository with the recipe, and what users do with one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

if TYPE_CHECKING:
    from collections.abc import Iterator


def change(repo: Path, values: dict[str, Any], file: str = "params.yaml") -> None:
    """Sets dotted keys of params.yaml, or of a track's."""
    yaml = YAML()
    sections = yaml.load(repo / file)
    for key, value in values.items():
        *folders, last = key.split(".")
        section = sections
        for folder in folders:
            section = section[folder]
        section[last] = value
    yaml.dump(sections, repo / file)


def call(repo: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of this environment in the repository, with more variables if there are."""
    folder = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    for name, value in (("NAME", "a"), ("EMAIL", "a@b.example")):
        env |= {f"GIT_AUTHOR_{name}": value, f"GIT_COMMITTER_{name}": value}
    env |= environment
    return subprocess.run(command, cwd=repo, env=env, text=True, capture_output=True, check=False)


def dvc(repo: Path, *arguments: str) -> str:
    done = call(repo, "dvc", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def would_run(repo: Path, *options: str) -> list[str]:
    """Returns the stages that have changed, and all that depend on them."""
    lines = dvc(repo, "repro", "--dry", "--force-downstream", *options).splitlines()
    return sorted(line.split("'")[1] for line in lines if line.startswith("Running stage"))


@contextmanager
def changed(file: Path, content: bytes) -> Iterator[None]:
    """Gives the file another content, and afterwards its own; as a new file, not through a link."""
    before = file.read_bytes()
    try:
        file.unlink()
        file.write_bytes(content)
        yield
    finally:
        file.unlink()
        file.write_bytes(before)


def start(repo: Path, stage: str, command: str = "run") -> subprocess.Popen[str]:
    """Starts a stage as dvc.yaml does; with `exec`, in this environment and not shown."""
    arguments = [sys.executable, "-m", "stages", command, stage]
    return subprocess.Popen(arguments, cwd=repo, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Returns the exit status, and what the stage has said."""
    _, said = process.communicate(timeout=300)
    return process.returncode, said


def succeed(process: subprocess.Popen[str]) -> None:
    """Waits for the stage's end, which is to be a good one."""
    status, said = finish(process)
    assert status == 0, said
    assert "nanobind" not in said  # its report about leaks looks like a failure


def wait_for(repo: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    """Waits until the running stage has written something into a file of that pattern."""
    deadline = time.monotonic() + 240
    while not any(path.stat().st_size for path in repo.glob(pattern)):
        assert process.poll() is None, finish(process)
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ran(shown: str) -> list[str]:
    """Returns the stages that DVC says it ran."""
    return sorted(line.split("'")[1] for line in shown.splitlines() if line.startswith("Running"))


def read(repo: Path, name: str) -> Any:
    return json.loads((repo / name).read_text(encoding="utf-8"))
