"""Reward models, for general problems, which no rule can judge: TRL scores with them as they are.

A problem is general if its row has a `category`, a column of the sources of general prompts. Others
are not theirs: DeepSeek-R1 (arXiv:2501.12948v2), section 3.1, gives rule-based rewards to reasoning
problems and the reward models' to general ones.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather

from stages._contract.artifacts import check_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COLUMN = "category"


def check_reward_models(folders: Sequence[Path], rows: Sequence[dict[str, Any]]) -> None:
    """Checks that these are reward models, and that some problem is theirs.

    To TRL any language model would do, with a reward head of random numbers.

    Raises:
        ValueError: it is not so; names the key.
    """
    for folder in folders:
        check_model(folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = config.get("architectures") or []
        if not any(name.endswith("ForSequenceClassification") for name in names):
            raise ValueError(
                f"grpo.reward_models: {folder} has the architecture {', '.join(names) or 'none'} "
                f"and no reward head: name a folder that the stage preference writes"
            )
    if all(row.get(COLUMN) is None for row in rows):
        raise ValueError(
            f"grpo.reward_models score problems with a {COLUMN!r}, and none of the {len(rows)} "
            f"rows of grpo.prompts has one: add a source of general prompts with columns "
            f"[{COLUMN}], such as stages/prompts/problems/general.jsonl, or drop the models"
        )


def check_template(think_prefix: str) -> None:
    """Checks that the template leaves completions whole. Raises ValueError.

    Args:
        think_prefix: the open think tag with which it ends prompts, or "".
    """
    if think_prefix:
        raise ValueError(
            f"grpo.reward_models: the model's chat template ends prompts with {think_prefix!r}, "
            f"which TRL would show to a reward model as a message of its own: use another template"
        )


def leave_to_rules(
    scores: torch.Tensor, inputs: Sequence[dict[str, Any]], num_models: int
) -> torch.Tensor:
    """Returns the scores, NaN where a model has scored a problem that is not general.

    Args:
        scores: [all processes' completions, rewards]; the models' are the last columns.
        inputs: the rows of this process's completions.
        num_models: how many there are.
    """
    is_general = [row.get(COLUMN) is not None for row in inputs]
    everywhere = gather(torch.tensor(is_general, device=scores.device))
    columns = torch.arange(scores.shape[1], device=scores.device) >= scores.shape[1] - num_models
    return scores.masked_fill(~everywhere[:, None] & columns[None, :], torch.nan)
