"""Sources of a few problems, for tests that read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import sha256_file
from stages.prompts.params import JsonlSource, ReasoningGymSource

if TYPE_CHECKING:
    from pathlib import Path


def gym(**changes: Any) -> ReasoningGymSource:
    """Returns a source of 20 sums, some of whose settings are changed."""
    settings: dict[str, Any] = {
        "dataset": "chain_sum",
        "config": {"min_terms": 2, "max_terms": 2},
        "columns": [],
        "num_draws": 20,
        "num_train": 1,
        "num_rl": 1,
        "num_evaluate": 1,
    }
    return ReasoningGymSource(kind="reasoning-gym", **(settings | changes))


def jsonl(path: Path, rows: list[Any], **changes: Any) -> JsonlSource:
    """Returns a source that is this file of these rows, which it writes."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings: dict[str, Any] = {
        "path": str(path),
        "sha256": sha256_file(path),
        "question_field": "question",
        "answer_field": "answer",
        "answer_after": "####",
        "solution_field": None,
        "columns": [],
        "max_invalid": 0,
        "num_train": 1,
        "num_rl": 1,
        "num_evaluate": 1,
    }
    return JsonlSource(kind="jsonl", **(settings | changes))
