"""Which problems a reward model scores, and what is no reward model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stages.grpo.reward_models import check_reward_models, check_template, leave_to_rules

GENERAL = {"answer": None, "category": "writing"}
SUM = {"answer": "4", "category": None}


def write_model(folder: Path, architecture: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    save_file({"score.weight": torch.zeros(1, 2)}, folder / "model.safetensors")
    return folder


def test_models_score_general_problems_alone() -> None:
    scores = torch.tensor([[1.0, 0.5, 2.0], [0.0, 0.25, 3.0], [torch.nan, 0.75, 4.0]])
    left = leave_to_rules(scores, [SUM, GENERAL, {"answer": None}], num_models=1)
    nan = torch.nan
    expected = torch.tensor([[1.0, 0.5, nan], [0.0, 0.25, 3.0], [nan, 0.75, nan]])
    assert torch.equal(left.nan_to_num(-1), expected.nan_to_num(-1))
    two = leave_to_rules(scores, [SUM, GENERAL, GENERAL], num_models=2)
    assert torch.isnan(two).tolist() == [[False, True, True], [False] * 3, [True, False, False]]


def test_model_with_a_head_and_general_problems_pass(tmp_path: Path) -> None:
    model = write_model(tmp_path / "reward", "LlamaForSequenceClassification")
    check_reward_models([model], [SUM, GENERAL])


def test_language_model_is_no_reward_model(tmp_path: Path) -> None:
    model = write_model(tmp_path / "base", "LlamaForCausalLM")
    with pytest.raises(ValueError, match="base has the architecture LlamaForCausalLM and no rewa"):
        check_reward_models([model], [GENERAL])


def test_model_without_a_general_problem_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "reward", "LlamaForSequenceClassification")
    with pytest.raises(ValueError, match="'category', and none of the 2 rows of grpo.prompts has"):
        check_reward_models([model], [SUM, {"answer": None}])


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config.json"):
        check_reward_models([tmp_path], [GENERAL])


def test_template_that_opens_a_thought_is_refused() -> None:
    check_template("")
    with pytest.raises(ValueError, match="ends prompts with '<think>"):
        check_template("<think>\n")
