"""DAPO's dynamic sampling on the tiny model: full batches, in processes, and after a kill."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig

from stages._contract.artifacts import read_jsonl, sha256_file, sha256_tree
from stages._contract.params import load
from stages.grpo.stage import WitnessedTrainer, choose_rewards, to_trl
from stages.sft.witness import Witness
from tests.repository import finish, read, wait_for
from tests.training import read_log, start_training, train

pytestmark = pytest.mark.pipeline

# Pairs: half of them have two right answers or two wrong ones.
CHANGES: dict[str, Any] = {
    "num_generations": 2,
    "max_num_gen_batches": 6,
    "save_steps": 1,
    "max_steps": 5,
    "rewards": {"answer_accuracy": 1.0},
}


def test_batch_is_full_of_groups_that_differ(repo: Path) -> None:
    params = load(repo / "params.yaml", "grpo")
    sizes: dict[str, Any] = {"num_generations": 2, "max_num_gen_batches": 20}
    params = replace(params, rewards={"answer_accuracy": 1.0}, beta=0.1, **sizes)
    rows = read_jsonl(repo / "artifacts/prompts/rl.jsonl")
    trainer = WitnessedTrainer(
        model=str(repo / "artifacts/base"),
        reward_funcs=choose_rewards(params, rows),
        args=GRPOConfig(**to_trl(params, repo / "work")),
        train_dataset=Dataset.from_list(rows),
    )
    trainer.think_prefix = ""
    trainer.witness = Witness(repo / "steps.jsonl")
    trainer.max_num_gen_batches = params.max_num_gen_batches
    trainer.model.train()
    torch.manual_seed(0)
    batch = [dict(row) for row in rows[:8] for _ in range(2)]
    output = trainer._generate_and_score_completions(batch)
    logged = trainer._metrics["train"]
    assert logged["frac_reward_zero_std"][0] > 0, "the first batch has gaps, or this shows nothing"
    assert logged["dynamic_sampling/resampled"][0] > 0
    assert logged["dynamic_sampling/unfilled"] == [0.0]
    advantages = output["advantages"].view(-1, 2)
    assert advantages.shape == (8, 2)
    assert (advantages.abs() > 0.5).all()
    assert torch.allclose(advantages.sum(dim=1), torch.zeros(8), atol=1e-5)
    assert output["num_items_in_batch"] == output["completion_mask"].sum()
    # What is trained on fits together: the right completions are those with the advantage.
    replies = trainer.processing_class.batch_decode(output["completion_ids"])
    questions = trainer.processing_class.batch_decode(output["prompt_ids"])
    for question, reply, advantage in zip(questions, replies, output["advantages"], strict=True):
        right = question.split("Calculate")[1].strip().partition(" ")[0]
        assert (f"<answer>{right}</answer>" in reply) == bool(advantage > 0), (question, reply)
    ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
    mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
    with torch.no_grad():
        width = output["completion_ids"].shape[1]
        logps = trainer._get_per_token_logps_and_entropies(trainer.ref_model, ids, mask, width)[0]
    seen = output["completion_mask"].bool()
    assert torch.allclose(output["ref_per_token_logps"][seen], logps[seen], atol=1e-4)


def test_default_samples_once(repo: Path) -> None:
    train(repo, "grpo", "none", **(CHANGES | {"max_num_gen_batches": None}))
    log = read_log(repo, "grpo")
    assert "resampled_rate" not in log[0]
    assert "resampled_rate" not in read(repo, "metrics/grpo.json")
    assert max(row["zero_std_rate"] for row in log) > 0


@pytest.mark.parametrize("distributed", ["none", "zero3"])
def test_killed_run_goes_on_to_the_same_bytes(repo: Path, distributed: str) -> None:
    """In its second epoch: a step has 16 of the 32 problems."""
    train(repo, "grpo", distributed, **CHANGES)
    whole = sha256_tree(repo / "artifacts/grpo")
    steps = sha256_file(repo / "runs/grpo.steps.jsonl")
    log, metrics = read_log(repo, "grpo"), read(repo, "metrics/grpo.json")
    assert all(row["resampled_rate"] > 0 for row in log)
    assert metrics["resampled_rate"] == pytest.approx(sum(r["resampled_rate"] for r in log) / 5)
    assert 0 <= metrics["unfilled_rate"] < 0.2
    shutil.rmtree(repo / "artifacts/grpo")
    process = start_training(repo, "grpo", distributed, **CHANGES)
    wait_for(repo, "work/grpo/*/checkpoints/checkpoint-3/trainer_state.json", process)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 143
    train(repo, "grpo", distributed, **CHANGES)
    assert read(repo, "runs/grpo.json")["facts"]["resumed_from_step"] >= 3
    assert sha256_tree(repo / "artifacts/grpo") == whole
    assert sha256_file(repo / "runs/grpo.steps.jsonl") == steps
    rows = (repo / "runs/grpo.steps.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["step"] for row in rows] == [0, 1, 2, 3, 4, 5]
