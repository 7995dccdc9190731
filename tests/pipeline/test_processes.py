"""Training in two processes on this machine, which accelerate and DeepSpeed connect by gloo."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stages._contract.artifacts import sha256_tree
from tests.repository import finish, read, wait_for
from tests.training import NUM_TRACES, read_log, start_training, train

pytestmark = pytest.mark.pipeline


def test_two_processes_learn_what_one_learns_from_the_same_batches(repo: Path) -> None:
    """Data parallel, and with ZeRO's shares of the state: the same losses and the same model."""
    train(repo, "sft", "none")
    log, model = read_log(repo, "sft"), load_file(repo / "artifacts/sft/model.safetensors")
    base = load_file(repo / "artifacts/base/model.safetensors")
    assert len(log) == NUM_TRACES / 8
    for distributed in ("ddp", "zero2", "zero3"):
        train(repo, "sft", distributed)
        for one, two in zip(log, read_log(repo, "sft"), strict=True):
            for key in ("loss", "grad_norm", "learning_rate"):
                assert two[key] == pytest.approx(one[key], rel=1e-4), (distributed, key)
        found = load_file(repo / "artifacts/sft/model.safetensors")
        assert found.keys() == model.keys()
        for name, weights in model.items():
            # Adam's step is as large as the learning rate wherever a gradient is about 0.
            assert torch.allclose(found[name], weights, atol=3e-5), (distributed, name)
        moved = [float((found[name] - base[name]).abs().max()) for name in found]
        assert max(moved) > 5e-5, distributed
        assert read(repo, "runs/sft.json")["facts"]["num_processes"] == 2
        steps = (repo / "runs/sft.steps.jsonl").read_text().splitlines()
        assert [json.loads(row)["step"] for row in steps] == [0, 1, 2, 3, 4]
        assert len({json.loads(row)["weights"] for row in steps}) == 4  # the first rate is 0


def test_reinforcement_in_two_processes(repo: Path) -> None:
    """Both sample, and the groups of both count: 4 problems a step with 8 completions each."""
    train(repo, "grpo", "zero3")
    metrics = read(repo, "metrics/grpo.json")
    assert (metrics["num_steps"], metrics["num_completions"]) == (3, 96)
    log = read_log(repo, "grpo")
    assert 0 < log[0]["answer_accuracy"] < 1
    assert log[0]["grad_norm"] > 0
    assert log[0]["answer_accuracy"] * 32 == int(log[0]["answer_accuracy"] * 32)
    loaded = load_file(repo / "artifacts/grpo/model.safetensors")
    base = load_file(repo / "artifacts/base/model.safetensors")
    assert {name: weights.shape for name, weights in loaded.items()} == {
        name: weights.shape for name, weights in base.items()
    }
    assert any(not torch.equal(loaded[name], base[name]) for name in base)


def test_killed_processes_go_on_from_their_checkpoint_to_the_same_bytes(repo: Path) -> None:
    train(repo, "sft", "zero3", save_steps=1)
    whole = sha256_tree(repo / "artifacts/sft")
    steps = (repo / "runs/sft.steps.jsonl").read_bytes()
    shutil.rmtree(repo / "artifacts/sft")
    process = start_training(repo, "sft", "zero3", save_steps=1)
    wait_for(repo, "work/sft/*/checkpoints/checkpoint-2/trainer_state.json", process)
    process.send_signal(signal.SIGTERM)
    status, said = finish(process)
    assert status == 143, said
    assert said.splitlines()[-1] == "rederive: sft: terminated; nothing half-written was kept"
    assert "Traceback" not in said
    assert not (repo / "artifacts/sft").exists()
    train(repo, "sft", "zero3", save_steps=1)
    assert read(repo, "runs/sft.json")["facts"]["resumed_from_step"] >= 2
    assert sha256_tree(repo / "artifacts/sft") == whole
    assert (repo / "runs/sft.steps.jsonl").read_bytes() == steps


@pytest.mark.parametrize("distributed", ["none", "zero3"])
def test_replaced_reference_is_part_of_a_checkpoint(repo: Path, distributed: str) -> None:
    changes: dict[str, Any] = {"save_steps": 1, "max_steps": 5, "learning_rate": 1e-3}
    changes |= {"sync_ref_model": True, "ref_model_sync_steps": 2, "beta": 0.5}
    train(repo, "grpo", distributed, **changes)
    whole = sha256_tree(repo / "artifacts/grpo")
    log = read_log(repo, "grpo")
    assert log[2]["kl"] < log[1]["kl"], "the reference was replaced after the second step"
    shutil.rmtree(repo / "artifacts/grpo")
    process = start_training(repo, "grpo", distributed, **changes)
    wait_for(repo, "work/grpo/*/checkpoints/checkpoint-3/trainer_state.json", process)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 143
    train(repo, "grpo", distributed, **changes)
    assert read(repo, "runs/grpo.json")["facts"]["resumed_from_step"] >= 3
    assert sha256_tree(repo / "artifacts/grpo") == whole


def test_mistake_is_one_line(repo: Path) -> None:
    status, said = finish(start_training(repo, "sft", "ddp", max_length=20))
    assert status == 1
    (line,) = [line for line in said.splitlines() if "rederive" in line]
    assert line.startswith("rederive: sft: sft.max_length is 20 tokens, but 32 of 32 traces")
    assert "Traceback" not in said


def test_process_that_dies_ends_the_others(repo: Path) -> None:
    process = start_training(repo, "sft", "ddp", num_train_epochs=10000.0)
    wait_for(repo, "work/sft/*/steps.jsonl", process)
    victim = worker_of_rank(process.pid, 1)
    os.kill(victim, signal.SIGKILL)
    status, said = finish(process)
    assert status == 1
    last = said.splitlines()[-1]
    assert last.startswith("rederive: sft: process 1 was ended by SIGKILL, and the others were")
    assert not (repo / "artifacts/sft").exists()


def worker_of_rank(parent: int, rank: int) -> int:
    """Returns the pid of the process of that rank below the parent."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "environ").read_bytes().split(b"\0")
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if above == parent and f"RANK={rank}".encode() in words:
            return int(folder.name)
    raise AssertionError(f"no process has rank {rank}")
