"""`python -m stages publish`, as users call it, in a small repository with a real record."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import sha256_tree
from stages._publish.publish import Options
from stages._publish.publish import publish as run_publish
from tests.git import git
from tests.recipe import make_source
from tests.repository import change, dvc
from tests.tiny_model import write_model, write_problems

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv-publish" / "bin"
TRACK = "tracks/r1-zero/dvc.yaml:zero_prompts"
TOKEN = "hf_thisIsNoTokenOfAnybody0123456789"  # noqa: S105
# AWS's own example keys.
AWS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}


def record(repo: Path) -> None:
    """Makes the folder a repository in which three stages ran: a model, and two data sets."""
    skip = shutil.ignore_patterns("__pycache__", "dvc.lock")
    for name in ("stages", "tracks"):
        shutil.copytree(ROOT / name, repo / name, ignore=skip)
    locks = ("containers/cpu.lock.txt", "containers/cpu.lock.yaml")
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore", *locks):
        (repo / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, repo / name)
    git(repo, "init", "-q")
    dvc(repo, "init", "-q")
    write_model(repo / "tiny", num_steps=1)
    source = make_source(write_problems(repo / "problems.jsonl"))
    model = {"kind": "path", "path": "tiny", "sha256": sha256_tree(repo / "tiny")}
    values: dict[str, Any] = {"fetch.source": model, "fetch.expected_sha256": None}
    values |= {"prompts.sources": {"arithmetic": source}, "report.tasks": ["arithmetic"]}
    change(repo, values)
    commit(repo, "recipe")
    dvc(repo, "repro", "fetch", "prompts", TRACK)
    commit(repo, "run")


def commit(repo: Path, message: str) -> None:
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", message)


def copy_of(repo: Path, folder: Path) -> Path:
    """Returns a copy of the repository, which a test may change."""
    copy = folder / "copy"
    shutil.copytree(repo, copy, symlinks=True)
    return copy


def publish(
    repo: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs it with no secrets but those of `env`, and without the user's own files."""
    command = [str(BIN / "python"), "-m", "stages", "publish", *arguments]
    return call(repo, *command, env=env)


def publish_here(folder: Path, /, *names: str, **options: Any) -> list[str]:
    """Returns the lines of it in this process, which has no mlcroissant: of models alone."""
    defaults: dict[str, Any] = {
        "to": "remote",
        "repo": None,
        "remote": None,
        "source": None,
        "licence": "MIT",
    }
    asked = Options(names=names, **{**defaults, "is_private": False, "push": True, **options})
    return list(run_publish(folder, asked))


def call(
    repo: Path, *command: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command with .venv-publish first, and a home of its own."""
    home = repo.parent / "home"
    home.mkdir(exist_ok=True)
    clean = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(home), "DVC_NO_ANALYTICS": "1"}
    clean |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **(env or {})}
    return subprocess.run(command, cwd=repo, env=clean, text=True, capture_output=True, check=False)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Returns the one line that says why."""
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    return line.removeprefix("rederive: ")


def succeeded(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Returns the lines that it printed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()
