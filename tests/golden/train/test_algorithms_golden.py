"""What TRL makes of each algorithm in the table of stages/grpo/README.md.

The golden file has the settings in which an algorithm differs from grpo.json, the shipped
parameters'. To renew it after a change that is meant:
`python -m tests.golden.train.test_algorithms_golden`.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stages._contract.params import load
from tests.algorithms import ALGORITHMS, apply
from tests.golden.train.test_train_golden import PARAMS, resolve

if TYPE_CHECKING:
    from stages.grpo.params import GrpoParams

FOLDER = Path(__file__).parent
GOLDEN = FOLDER / "algorithms.json"


def resolve_changes(name: str) -> dict[str, Any]:
    """Returns TRL's settings in which the algorithm is not as shipped."""
    shipped = resolve("grpo")
    params: GrpoParams = apply(load(PARAMS, "grpo"), ALGORITHMS[name])
    found = resolve("grpo", params)
    assert found.keys() == shipped.keys()
    return {key: value for key, value in found.items() if shipped[key] != value}


def test_table_has_the_algorithms_that_are_asked_for() -> None:
    asked = {"grpo", "r1_stage_1", "dapo", "dr_grpo", "bnpo", "gspo", "cispo"}
    assert ALGORITHMS.keys() == asked


@pytest.mark.parametrize("name", ALGORITHMS)
def test_settings_are_those_of_the_golden_file(name: str) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert golden.keys() == ALGORITHMS.keys()
    assert resolve_changes(name) == golden[name]


def test_every_key_of_the_table_has_an_effect_or_is_as_shipped() -> None:
    """What a line names is in the resolved settings with that value, under the same name."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    shipped = resolve("grpo")
    for name, keys in ALGORITHMS.items():
        resolved = shipped | golden[name]
        for key, value in keys.items():
            if key in ("rewards", "reward_args", "max_num_gen_batches"):  # ours alone
                continue
            assert resolved[key] == value, (name, key)


def test_stage_1_of_r1_is_the_profile_s() -> None:
    """The line of the table says nothing that recipes/r1-paper.yaml says otherwise."""
    profile = load(PARAMS.parent / "recipes" / "r1-paper.yaml", "grpo")
    assert {field.name for field in fields(profile)} >= ALGORITHMS["r1_stage_1"].keys()
    for key, value in ALGORITHMS["r1_stage_1"].items():
        assert getattr(profile, key) == value, key


if __name__ == "__main__":
    text = json.dumps({name: resolve_changes(name) for name in ALGORITHMS}, indent=1)
    GOLDEN.write_text(text + "\n", encoding="utf-8")
