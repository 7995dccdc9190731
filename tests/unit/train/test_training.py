"""The log of a training, with a model of one weight."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from stages._contract.artifacts import read_jsonl
from stages._contract.determinism import LIMITS
from stages.sft.training import train, write_log
from stages.sft.witness import Witness

if TYPE_CHECKING:
    from pathlib import Path


class Line(torch.nn.Module):  # type: ignore[misc]  # torch is not read by mypy
    """y = slope x, whose loss is y squared."""

    def __init__(self) -> None:
        """Begins with slope 1."""
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        """Returns the loss, as transformers' trainer takes it."""
        return {"loss": (self.slope * x).square().mean()}


@pytest.fixture(autouse=True)
def _native(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIMITS["avx2"]:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("logging_steps", "steps"), [(1, list(range(1, 13))), (5, [5, 10, 12]), (100, [12])]
)
def test_last_steps_are_in_the_log(tmp_path: Path, logging_steps: int, steps: list[int]) -> None:
    """Of 12 steps, of which `logging_steps` need not be a divisor, or less."""
    trainer = Trainer(
        model=Line(),
        args=TrainingArguments(
            output_dir=str(tmp_path / "checkpoints"),
            max_steps=12,
            logging_steps=logging_steps,
            per_device_train_batch_size=1,
            learning_rate=0.0,
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            report_to=[],
        ),
        train_dataset=[{"x": float(number % 4)} for number in range(12)],
    )
    threads = torch.get_num_threads()
    params: Any = SimpleNamespace(seed=0, num_threads=threads, num_processes=1, cpu_isa="native")
    train(trainer, Witness(tmp_path / "steps.jsonl"), params, tmp_path)
    rows = write_log(trainer, {"loss": "loss"}, tmp_path / "log.jsonl")
    assert [row["step"] for row in rows] == steps
    assert read_jsonl(tmp_path / "log.jsonl") == rows
    lengths = [now - before for before, now in zip([0, *steps], steps, strict=False)]
    total = sum(row["loss"] * length for row, length in zip(rows, lengths, strict=True))
    assert total / 12 == pytest.approx((0 + 1 + 4 + 9) / 4)
