"""What filter leaves, as the report's page reads it: one problem with a trace that was kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import write_jsonl

if TYPE_CHECKING:
    from pathlib import Path

RIGHT = "<think>1 + 1 = 2</think><answer>2</answer>"


def write_filtered(repo: Path, sample: int, rejects: list[dict[str, Any]]) -> None:
    """Writes RIGHT as that sample of the problem p1, and the rejects as they are."""
    folder = repo / "artifacts/filter"
    folder.mkdir(parents=True)
    kept = {
        "id": "p1",
        "task": "sums",
        "answer": "2",
        "prompt": [{"role": "user", "content": "1 + 1?"}],
        "completion": [{"role": "assistant", "content": RIGHT}],
        "sample": sample,
    }
    write_jsonl(folder / "train.jsonl", [kept])
    write_jsonl(folder / "rejects.jsonl", rejects)
