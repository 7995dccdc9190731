"""Training on one GPU: what a CPU learns, the same bytes again, and what only a GPU has."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from stages._contract.artifacts import sha256_tree
from tests.repository import finish, read, wait_for
from tests.training import read_log, start_training, train

pytestmark = pytest.mark.gpu

KERNELS = "containers/train.in"
# Long enough to be killed in the middle.
LONG: dict[str, dict[str, Any]] = {
    "sft": {"num_train_epochs": 10.0},
    "grpo": {"max_steps": 6, "learning_rate": 1e-3, "beta": 0.04},
}


def train_on_gpu(repo: Path, stage: str, distributed: str = "none", **changes: Any) -> None:
    """Trains in one process, which takes all the rows of a step."""
    rows = {"sft": 8, "grpo": 16}[stage]
    changes = {"num_processes": 1, "per_device_train_batch_size": rows, **changes}
    train(repo, stage, distributed, image="train", **changes)


@pytest.fixture
def without_gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Hides the GPUs from what a test starts, until it undoes that."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return monkeypatch


def test_sft_learns_what_a_cpu_learns(repo: Path, without_gpus: pytest.MonkeyPatch) -> None:
    """In float32, whose products are not cut short to TensorFloat-32."""
    train_on_gpu(repo, "sft")
    on_cpu = read_log(repo, "sft")
    assert "gpu" not in read(repo, "runs/sft.json")["facts"]["settings"]
    without_gpus.undo()
    train_on_gpu(repo, "sft")
    for cpu, gpu in zip(on_cpu, read_log(repo, "sft"), strict=True):
        for key in ("loss", "grad_norm", "learning_rate", "entropy", "mean_token_accuracy"):
            assert gpu[key] == pytest.approx(cpu[key], rel=1e-4), key


def test_manifest_names_the_gpu(repo: Path) -> None:
    train_on_gpu(repo, "sft")
    run = read(repo, "runs/sft.json")
    gpu = run["facts"]["settings"]["gpu"]
    (named,) = run["machine"]["gpus"]
    name, driver = named.split(", ")
    assert name == gpu["name"]
    assert [word.isdecimal() for word in driver.split(".")] == [True] * 3
    assert (gpu["allow_tf32"], gpu["cublas_workspace"]) == (False, ":4096:8")
    assert run["facts"]["settings"]["deterministic_algorithms"] is True


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_stage_has_the_same_bytes_again_also_after_a_kill(repo: Path, stage: str) -> None:
    train_on_gpu(repo, stage, save_steps=1, **LONG[stage])
    output, steps = repo / "artifacts" / stage, repo / f"runs/{stage}.steps.jsonl"
    before = sha256_tree(output), steps.read_bytes()
    log = read_log(repo, stage)
    assert max(row["grad_norm"] for row in log) > 0
    shutil.rmtree(output)
    changes = {"image": "train", "num_processes": 1, "save_steps": 1, **LONG[stage]}
    process = start_training(repo, stage, "none", **changes)
    wait_for(repo, f"work/{stage}/*/checkpoints/checkpoint-2/trainer_state.json", process)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 143
    train_on_gpu(repo, stage, save_steps=1, **LONG[stage])
    assert read(repo, f"runs/{stage}.json")["facts"]["resumed_from_step"] >= 2
    assert (sha256_tree(output), steps.read_bytes()) == before


@pytest.mark.parametrize("distributed", ["zero2", "zero3"])
def test_deepspeed_learns_what_the_trainer_alone_learns(repo: Path, distributed: str) -> None:
    train_on_gpu(repo, "sft")
    alone = read_log(repo, "sft")
    train_on_gpu(repo, "sft", distributed)
    for one, sharded in zip(alone, read_log(repo, "sft"), strict=True):
        for key in ("loss", "grad_norm", "learning_rate"):
            assert sharded[key] == pytest.approx(one[key], rel=1e-4), key


@pytest.mark.parametrize(
    "changes",
    [
        {"attn_implementation": "sdpa"},
        {"attn_implementation": "sdpa", "use_liger_kernel": True, "loss_type": "nll"},
        {"attn_implementation": "flash_attention_4"},
        {"attn_implementation": "flash_attention_4", "gradient_checkpointing": True},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_kernels_of_gpus_learn_what_the_others_learn(repo: Path, changes: dict[str, Any]) -> None:
    """In bfloat16, of which 8 bits are the number: 1 in 256."""
    if changes["attn_implementation"] == "flash_attention_4":
        pytest.importorskip("flash_attn.cute", reason=f"flash-attn-4 is not there: see {KERNELS}")
    train_on_gpu(repo, "sft", **LONG["sft"])
    exact = read_log(repo, "sft")
    train_on_gpu(repo, "sft", dtype="bfloat16", **LONG["sft"], **changes)
    rounded = read_log(repo, "sft")
    assert rounded[0]["loss"] == pytest.approx(exact[0]["loss"], rel=2e-2)
    ends = [fmean(row["loss"] for row in log[-4:]) for log in (exact, rounded)]
    assert ends[1] == pytest.approx(ends[0], rel=0.2)
