"""What TRL makes of the shipped parameters: a change of a default in TRL or here shows up.

To renew the files after a change that is meant: `python -m tests.golden.train.test_train_golden`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from trl import GRPOConfig, RewardConfig, SFTConfig

from stages._contract.params import load
from stages.grpo import stage as grpo
from stages.preference import stage as preference
from stages.sft import stage as sft

FOLDER = Path(__file__).parent
PARAMS = FOLDER.parents[2] / "params.yaml"
STAGES = ("sft", "preference", "grpo")
# Paths, and what depends on the device that is found.
LEFT_OUT = {"output_dir", "logging_dir", "use_cpu", "dataloader_pin_memory"}


def resolve(stage: str, params: Any = None) -> dict[str, Any]:
    """Returns all of TRL's settings for the stage, as JSON gives them back; None: as shipped."""
    params = params or load(PARAMS, stage)
    work = Path("work")
    config = {
        "sft": lambda: SFTConfig(**sft.to_trl(params, work)),
        "preference": lambda: RewardConfig(**preference.to_trl(params, work)),
        "grpo": lambda: GRPOConfig(**grpo.to_trl(params, work)),
    }[stage]()
    settings = {key: value for key, value in config.to_dict().items() if key not in LEFT_OUT}
    resolved: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return resolved


@pytest.mark.parametrize("stage", STAGES)
def test_settings_are_those_of_the_golden_file(stage: str) -> None:
    golden = json.loads((FOLDER / f"{stage}.json").read_text(encoding="utf-8"))
    resolved = resolve(stage)
    assert {k: v for k, v in resolved.items() if golden.get(k, ...) != v} == {}
    assert golden.keys() == resolved.keys()


if __name__ == "__main__":
    for name in STAGES:
        text = json.dumps(resolve(name), indent=1, sort_keys=True) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
