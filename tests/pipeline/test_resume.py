"""Stages that are killed go on where they were, and their output has the bytes of a whole run."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING

import pytest

from stages._contract.artifacts import sha256_file, sha256_tree
from tests.pipeline.repository import finish, read, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.resume

CHECKPOINT = "checkpoints/checkpoint-*/trainer_state.json"
FIRST = {"generate": "shard-00000.jsonl", "sft": CHECKPOINT, "grpo": CHECKPOINT}
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
    checkpoints = [path.parent.name for path in repo.glob(f"work/{stage}/*/{CHECKPOINT}")]
    return max((int(name.rpartition("-")[2]) for name in checkpoints), default=0)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def kill_when_saved(repo: Path, stage: str) -> None:
    """Kills the stage as soon as it has saved something."""
    process = start(repo, stage)
    deadline = time.monotonic() + 120
    try:
        while not list(repo.glob(f"work/{stage}/*/{FIRST[stage]}")):
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
    finish(start(repo, stage))
    assert read(repo, f"runs/{stage}.json")["facts"][FACT[stage]] == before


def at_once(repo: Path, action: Callable[[Path, str], None]) -> None:
    """Does it for all stages at the same time, since their starts take most of it."""
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda stage: action(repo, stage), FACT):
            pass


def digests(repo: Path) -> dict[str, str]:
    """Returns those of the outputs, and of what is recorded of the steps that led there."""
    outs = {stage: sha256_tree(repo / "artifacts" / stage) for stage in FACT}
    steps = {f"{stage}, steps": sha256_file(repo / f"runs/{stage}.steps.jsonl") for stage in FACT}
    return outs | steps


def test_kill_after_the_first_save(repo: Path) -> None:
    before = digests(repo)
    at_once(repo, kill_when_saved)
    assert digests(repo) == before
    assert all(saved(repo, stage) > 0 for stage in FACT)
    for checkpoints in repo.glob("work/*/*/checkpoints"):
        (checkpoints / "checkpoint-99").mkdir()  # as if killed while it was written
    at_once(repo, go_on)
    assert digests(repo) == before


def test_kills_at_random(repo: Path) -> None:
    before = digests(repo)
    at_once(repo, kill_at_random)
    at_once(repo, go_on)
    assert digests(repo) == before
