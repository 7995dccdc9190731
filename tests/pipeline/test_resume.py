"""Stages that are killed go on where they were, and their output has the bytes of a whole run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from stages._contract.artifacts import sha256_file, sha256_tree
from tests.repository import read, start, succeed

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.resume

STATE = "trainer_state.json"
FACT = {
    "generate": "resumed_after_num_prompts",
    "sft": "resumed_from_step",
    "grpo": "resumed_from_step",
}
NUM_KILLS = 5
NUM_SAMPLES = 4  # generate.num_samples


def saved(repo: Path, stage: str) -> int:
    """Returns how far the kept work goes: problems sampled, or steps."""
    if stage == "generate":
        shards = repo.glob("work/generate/*/shard-*.jsonl")
        lines = [line for path in shards for line in path.read_text().splitlines()]
        return len(lines) // NUM_SAMPLES
    states = repo.glob(f"work/{stage}/*/checkpoints/checkpoint-*/{STATE}")
    return max(map(read_step, states), default=0)


def read_step(state: Path) -> int:
    """Returns the step of a checkpoint's last file, or 0 if that is not there to its end."""
    try:
        step: int = json.loads(state.read_text())["global_step"]
    except (FileNotFoundError, json.JSONDecodeError):
        return 0
    return step


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def kill_when_saved(repo: Path, stage: str) -> None:
    """Kills the stage as soon as it has saved something."""
    process = start(repo, stage)
    deadline = time.monotonic() + 120
    try:
        while saved(repo, stage) == 0:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        kill(process)


def kill_at_random(repo: Path, stage: str) -> None:
    """Kills the stage at random moments; a start that ends before its moment counts for nothing."""
    random, num_kills = Random(stage), 0  # noqa: S311 - moments, not secrets
    longest_s = 1.5 * read(repo, f"runs/{stage}.json")["duration_s"]
    while num_kills < NUM_KILLS:
        process = start(repo, stage)
        try:
            _, stderr = process.communicate(timeout=random.uniform(0, longest_s))
            assert process.returncode == 0, stderr
        except subprocess.TimeoutExpired:
            kill(process)
            num_kills += 1


def go_on(repo: Path, stage: str) -> None:
    """Runs the stage to its end, and checks that it did not begin anew."""
    before = saved(repo, stage)
    succeed(start(repo, stage))
    assert read(repo, f"runs/{stage}.json")["facts"][FACT[stage]] == before


@pytest.fixture
def repos(recipe: Path, tmp_path: Path) -> dict[str, Path]:
    """Returns a copy for each stage, so that none reads what another one is publishing."""
    return {stage: Path(shutil.copytree(recipe, tmp_path / stage, symlinks=True)) for stage in FACT}


def at_once(repos: dict[str, Path], action: Callable[[Path, str], None]) -> None:
    """Does it for all stages at the same time, since their starts take most of it."""
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(action, repos.values(), repos):
            pass


def digests(repos: dict[str, Path]) -> dict[str, str]:
    """Returns those of the outputs, and of what is recorded of the steps that led there."""
    outs = {stage: sha256_tree(repo / "artifacts" / stage) for stage, repo in repos.items()}
    steps = {
        f"{stage}, steps": sha256_file(repo / f"runs/{stage}.steps.jsonl")
        for stage, repo in repos.items()
    }
    return outs | steps


def test_kill_after_the_first_save(repos: dict[str, Path]) -> None:
    before = digests(repos)
    at_once(repos, kill_when_saved)
    assert digests(repos) == before
    for stage, repo in repos.items():
        assert saved(repo, stage) > 0
        for checkpoints in repo.glob("work/*/*/checkpoints"):
            # As if killed while they were written: before the last file, and before its content.
            (checkpoints / "checkpoint-99").mkdir()
            (checkpoints / "checkpoint-98").mkdir()
            (checkpoints / "checkpoint-98" / STATE).touch()
    at_once(repos, go_on)
    assert digests(repos) == before


def test_kills_at_random(repos: dict[str, Path]) -> None:
    before = digests(repos)
    at_once(repos, kill_at_random)
    at_once(repos, go_on)
    assert digests(repos) == before


def test_part_that_another_job_did_is_taken(recipe: Path, tmp_path: Path) -> None:
    """The second of two has the second of three shards, of 16 problems each."""
    clone = Path(shutil.copytree(recipe, tmp_path / "clone", symlinks=True))
    before = sha256_tree(clone / "artifacts/generate")
    command = [sys.executable, "-m", "stages", "exec", "generate", "--part", "2/2"]
    subprocess.run(command, cwd=clone, check=True)
    assert [path.name for path in clone.glob("work/generate/*/shard-*")] == ["shard-00001.jsonl"]
    assert sha256_tree(clone / "artifacts/generate") == before, "a part publishes nothing"
    shutil.rmtree(clone / "artifacts/generate")
    succeed(start(clone, "generate"))
    facts = read(clone, "runs/generate.json")["facts"]
    assert facts["resumed_after_num_prompts"] == 16
    assert [part["generator"] for part in facts["parts"]] == ["vllm"]
    assert sha256_tree(clone / "artifacts/generate") == before
