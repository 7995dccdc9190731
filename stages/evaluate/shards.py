"""Responses are kept in shards: files of some problems each, written whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import read_jsonl

if TYPE_CHECKING:
    from pathlib import Path


def list_shards(rows: list[dict[str, Any]], shard_size: int, work: Path) -> dict[Path, list[str]]:
    """Returns the ids of each shard's problems by its path in `work`."""
    return {
        work / f"responses-{number:05}.jsonl": [
            row["id"] for row in rows[start : start + shard_size]
        ]
        for number, start in enumerate(range(0, len(rows), shard_size))
    }


def is_recorded(path: Path, names: list[str], num_samples: int) -> bool:
    """Returns whether the file has that many responses to each of these problems, in this order."""
    if not path.is_file():
        return False
    found = [(row["id"], len(row["responses"])) for row in read_jsonl(path)]
    return found == [(name, num_samples) for name in names]
