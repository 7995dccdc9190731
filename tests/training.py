"""A repository in which sft and grpo can run alone: the tiny model, its problems, and traces."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.repository import change, start, succeed
from tests.tiny_model import answer, question, write_model

if TYPE_CHECKING:
    import subprocess

ROOT = Path(__file__).parents[1]
NUM_TRACES = 32


def make_training(repo: Path) -> None:
    """Makes the folder such a repository: what fetch, prompts and filter would leave is written."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "stages", repo / "stages", ignore=skip)
    shutil.copytree(ROOT / "containers", repo / "containers")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, repo / name)
    write_model(repo / "artifacts/base")
    rows = [_row(number) for number in range(10, 10 + NUM_TRACES)]
    _write(repo / "artifacts/filter/train.jsonl", rows)
    _write(repo / "artifacts/prompts/rl.jsonl", rows)
    change(
        repo,
        {
            "sft.num_threads": 1,
            "sft.num_train_epochs": 1.0,
            "sft.per_device_train_batch_size": 4,
            "grpo.model": "artifacts/base",
            "grpo.num_threads": 1,
            "grpo.max_steps": 3,
            "grpo.per_device_train_batch_size": 8,
            "grpo.gradient_accumulation_steps": 2,
            "grpo.max_completion_length": 12,
        },
    )


def start_training(
    repo: Path, stage: str, distributed: str, **changes: Any
) -> subprocess.Popen[str]:
    """Starts the stage in two processes, or in one that takes twice as many rows per pass."""
    num = 1 if distributed == "none" else 2
    values = {"distributed": distributed, "num_processes": num, **changes}
    key = "per_device_train_batch_size"
    values.setdefault(key, {"sft": 8, "grpo": 16}[stage] // num)
    change(repo, {f"{stage}.{name}": value for name, value in values.items()})
    return start(repo, stage, "exec")


def train(repo: Path, stage: str, distributed: str, **changes: Any) -> None:
    """Runs the stage so to its end."""
    succeed(start_training(repo, stage, distributed, **changes))


def read_log(repo: Path, stage: str) -> list[dict[str, Any]]:
    """Returns the rows of the stage's curve."""
    lines = (repo / "artifacts" / stage / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _row(number: int) -> dict[str, Any]:
    text = f"<think>{answer(number)}</think><answer>{answer(number)}</answer>"
    return {
        "id": f"arithmetic-{number}",
        "prompt": [{"role": "user", "content": question(number)}],
        "completion": [{"role": "assistant", "content": text}],
        "answer": answer(number),
    }


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
