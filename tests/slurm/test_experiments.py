"""Two experiments at the same time: worktrees with one cache, each with a job of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.demo import make_demo, write_stage
from tests.git import git
from tests.slurm.launching import add_site, jobs_of, set_needs

if TYPE_CHECKING:
    from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm

# Both are there before one of them ends, or the test runs into its time limit.
MEETS_THE_OTHER = """
data = inputs.data.read_text()
meeting = inputs.data.absolute().parents[1] / "meeting"
meeting.mkdir(exist_ok=True)
(meeting / data).touch()
while len(list(meeting.iterdir())) < 2:
    time.sleep(0.1)
(out / "a").write_text(data)
return {"demo": {"n": params.size}}
"""


@pytest.fixture
def env(cluster: Cluster) -> dict[str, str]:
    """Returns a user's environment, with the site set and this Python's commands first."""
    env = {**os.environ, **cluster.env, "R1_SITE": "test", "DVC_NO_ANALYTICS": "1"}
    env["PATH"] = f"{Path(sys.executable).parent}:{cluster.env['PATH']}"
    for name, value in (("NAME", "a"), ("EMAIL", "a@b.example")):
        env |= {f"GIT_AUTHOR_{name}": value, f"GIT_COMMITTER_{name}": value}
    return env


def call(folder: Path, env: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=env, text=True, capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_experiments_run_at_once_and_share_what_they_have_made(
    cluster: Cluster, tmp_path: Path, env: dict[str, str]
) -> None:
    repo = tmp_path / "repo"
    make_demo(repo)
    add_site(repo)
    set_needs(repo, "demo")
    write_stage(repo, MEETS_THE_OTHER)
    (repo / ".gitignore").write_text("/artifacts/\n/work/\n__pycache__/\n", encoding="utf-8")
    (repo / ".dvcignore").write_text("__pycache__\n", encoding="utf-8")
    git(repo, "init", "-q")
    call(repo, env, "dvc", "init", "--quiet")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "all")
    shown = call(repo, env, "slurm/experiment", "try", str(tmp_path / "site-cache"))
    other = tmp_path / "repo-try"
    assert shown.startswith(f"cd {other}, change params.yaml")
    (other / "data.txt").write_text("y", encoding="utf-8")
    runs = [
        subprocess.Popen(
            ["dvc", "repro"],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for folder in (repo, other)
    ]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    assert [job["JobState"] for job in jobs_of(cluster, repo)] == ["COMPLETED", "COMPLETED"]
    for folder, data in ((repo, "x"), (other, "y")):
        assert (folder / "artifacts/demo/a").read_text(encoding="utf-8") == data
        assert "up to date" in call(folder, env | {"R1_SITE": "local"}, "dvc", "repro")
    # What the one has made, the other takes from the cache, although it would wait for ever.
    shutil.rmtree(tmp_path / "meeting")
    (other / "data.txt").write_text("x", encoding="utf-8")
    assert "is cached - skipping run" in call(other, env, "dvc", "repro")
    assert (other / "artifacts/demo/a").read_text(encoding="utf-8") == "x"
    assert len(jobs_of(cluster, repo)) == 2
