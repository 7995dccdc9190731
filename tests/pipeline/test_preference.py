"""A reward model of a tiny model learns its pairs, survives a kill, and rewards grpo's samples."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from stages._contract.artifacts import read_jsonl, sha256_tree
from tests.repository import change, finish, read, start, succeed, wait_for
from tests.tiny_model import answer, question
from tests.training import make_training, read_log

pytestmark = pytest.mark.pipeline

NUM_PAIRS = 40
REWARD_MODEL = "artifacts/preference"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a repository whose reward model likes short answers, trained there."""
    repo = tmp_path_factory.mktemp("preference") / "repo"
    make_training(repo)
    pairs = [
        {
            "prompt": question(number),
            "chosen": f"<answer>{answer(number)}</answer>",
            "rejected": f"Calculate {number} user <think>",
            "kind": "even" if number % 2 == 0 else "odd",
        }
        for number in range(10, 10 + NUM_PAIRS)
    ]
    write(repo / "pairs.jsonl", pairs)
    change(
        repo,
        {
            "preference.dataset": "pairs.jsonl",
            "preference.num_threads": 1,
            "preference.learning_rate": 1.0e-3,
            "preference.num_train_epochs": 2.0,
            "preference.save_steps": 1,
            "grpo.max_steps": 2,
            "grpo.num_threads": 1,
        },
    )
    run(repo, "preference")
    return repo


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(repo: Path, stage: str) -> None:
    succeed(start(repo, stage, "exec"))


def fails(repo: Path, stage: str) -> str:
    """Returns the last line that the stage says before it ends with 1."""
    status, said = finish(start(repo, stage, "exec"))
    assert status == 1, said
    assert "Traceback" not in said
    return said.splitlines()[-1]


def make_general(repo: Path) -> None:
    """Makes every second problem a general one, without an answer."""
    path = repo / "artifacts/prompts/rl.jsonl"
    rows = read_jsonl(path)
    for number, row in enumerate(rows):
        row["category"] = "sums" if number % 2 else None
        row["answer"] = None if number % 2 else row["answer"]
    write(path, rows)


def test_held_out_pairs_are_told_apart(source: Path) -> None:
    metrics = read(source, "metrics/preference.json")
    assert (metrics["num_pairs"], metrics["num_steps"]) == (32, 8)
    held_out = metrics["held_out"]
    assert held_out["num_pairs"] == NUM_PAIRS - 32
    assert held_out["accuracy"] == 1.0
    assert held_out["longer_is_chosen"] == 0.0
    assert held_out["mean_margin"] > 1.0
    assert set(held_out["kinds"]) == {"even", "odd"}
    rows = read_jsonl(source / REWARD_MODEL / "held_out.jsonl")
    assert {len(row) for row in rows} == {4}
    trained = read_jsonl(source / "pairs.jsonl")
    assert [row["kind"] for row in rows] == [trained[row["line"] - 1]["kind"] for row in rows]
    log = read_log(source, "preference")
    assert [row["step"] for row in log] == list(range(1, 9))
    assert log[-1]["loss"] < log[0]["loss"] / 2
    assert log[0]["learning_rate"] == 0.0, "it warms up"


def test_folder_is_a_model_with_one_output_and_the_base_models_tokenizer(source: Path) -> None:
    folder = source / REWARD_MODEL
    config = read(source, f"{REWARD_MODEL}/config.json")
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert str(source) not in (folder / "config.json").read_text()
    weights = load_file(folder / "model.safetensors")
    assert weights["score.weight"].shape == (1, 64)
    assert "lm_head.weight" not in weights
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (folder / name).read_bytes() == (source / "artifacts/base" / name).read_bytes()
    steps = read_jsonl(source / "runs/preference.steps.jsonl")
    assert [row["step"] for row in steps] == list(range(9))
    assert set(steps[1]) == {"step", "batch", "weights", "tensors"}


def test_killed_run_goes_on_to_the_same_bytes(repo: Path) -> None:
    whole = sha256_tree(repo / REWARD_MODEL)
    steps = (repo / "runs/preference.steps.jsonl").read_bytes()
    shutil.rmtree(repo / REWARD_MODEL)
    process = start(repo, "preference", "exec")
    wait_for(repo, "work/preference/*/checkpoints/checkpoint-2/trainer_state.json", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (repo / REWARD_MODEL).exists()
    run(repo, "preference")
    assert read(repo, "runs/preference.json")["facts"]["resumed_from_step"] >= 2
    assert sha256_tree(repo / REWARD_MODEL) == whole
    assert (repo / "runs/preference.steps.jsonl").read_bytes() == steps


def test_pairs_that_are_too_long_are_an_error_or_left_out(repo: Path) -> None:
    rows = read_jsonl(repo / "pairs.jsonl")
    rows[3]["chosen"] += " and so on" * 20
    write(repo / "pairs.jsonl", rows)
    change(repo, {"preference.max_length": 100, "preference.num_train_epochs": 1.0})
    assert fails(repo, "preference") == (
        "rederive: preference: preference.max_length is 100 tokens, but 1 of 40 pairs have a "
        "longer text: raise it, or set drop_longer to true"
    )
    change(repo, {"preference.drop_longer": True})
    run(repo, "preference")
    metrics = read(repo, "metrics/preference.json")
    assert metrics["num_dropped"] == 1
    assert metrics["num_pairs"] + metrics["held_out"]["num_pairs"] == NUM_PAIRS - 1


def test_reward_model_rewards_general_problems_alone(repo: Path) -> None:
    make_general(repo)
    change(
        repo,
        {
            "grpo.rewards": {"answer_accuracy": 1.0, "answer_format": 0.0},
            "grpo.reward_models": {REWARD_MODEL: 0.5},
        },
    )
    run(repo, "grpo")
    log = read_log(repo, "grpo")
    for row in log:
        if row["answer_accuracy"] is None:
            assert row["reward"] == pytest.approx(0.5 * row["reward_model/preference"], abs=1e-6)
        if row["reward_model/preference"] is None:
            assert row["reward"] == pytest.approx(row["answer_accuracy"], abs=1e-6)
    scores = [row["reward_model/preference"] for row in log]
    assert any(score is not None for score in scores)
    assert all(row["answer_format"] is not None for row in log)
    facts = read(repo, "runs/grpo.json")
    assert REWARD_MODEL in facts["inputs"]
    metrics = read(repo, "metrics/grpo.json")
    assert "final_reward_model/preference" in metrics or scores[-1] is None
    assert str(repo) not in (repo / "artifacts/grpo/log.jsonl").read_text()
    first = (repo / "artifacts/grpo/model.safetensors").read_bytes()
    run(repo, "grpo")
    assert (repo / "artifacts/grpo/model.safetensors").read_bytes() == first, "the same again"


def test_what_is_no_reward_model_or_has_nothing_to_score_is_one_line(repo: Path) -> None:
    change(repo, {"grpo.reward_models": {REWARD_MODEL: 0.5}})
    assert "none of the 32 rows of grpo.prompts has one: add a source" in fails(repo, "grpo")
    make_general(repo)
    change(repo, {"grpo.reward_models": {"artifacts/base": 0.5}})
    line = fails(repo, "grpo")
    assert line.startswith(
        "rederive: grpo: grpo.reward_models: artifacts/base has the architecture"
    )
