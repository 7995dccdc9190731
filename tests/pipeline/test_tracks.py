"""R1-Zero, R1 and distillation, as users run them after the core graph, on a tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages._contract.artifacts import read_jsonl
from tests.repository import change, changed, dvc, read, would_run

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(900)]  # all tracks run in its fixture

ROOT = Path(__file__).parents[2]
MODELS = ("zero", "cold_start", "reasoning_rl", "second_sft", "scenarios", "distilled")
ALL = "--all-pipelines"


@pytest.fixture(scope="module")
def tracks(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a copy of the recipe's repository in which the tracks have run."""
    copy = tmp_path_factory.mktemp("tracks") / "repo"
    shutil.copytree(recipe, copy, symlinks=True)
    shutil.copytree(ROOT / "tracks", copy / "tracks", ignore=shutil.ignore_patterns("dvc.lock"))
    core = YAML(typ="safe", pure=True).load(copy / "params.yaml")
    source = core["prompts"]["sources"]["arithmetic"]
    # The tiny model's tokens are bytes, and its context has 256 of them.
    values: dict[str, Any] = {
        "grpo.zero.max_completion_length": 12,
        "prompts.zero_prompts.system_prompt": "Think in <think> </think>.",
    }
    change(copy, values, "tracks/r1-zero/params.yaml")
    values = {
        **{
            f"grpo.{step}.max_completion_length": 12
            for step in ("reasoning_rl", "scenarios_rules", "scenarios")
        },
        **{
            f"generate.{step}.max_tokens": 12
            for step in ("cold_start_samples", "reasoning_samples", "general_samples")
        },
        "grpo.scenarios_rules.max_steps": 2,
        "grpo.scenarios.max_steps": 2,
        # It knows one kind of problem, and never ends its answers to others.
        "prompts.general_prompts.sources.general": {
            **source,
            "answer_field": None,
            "answer_after": None,
            "columns": ["q"],
            "num_train": 20,
            "num_rl": 0,
            "num_evaluate": 0,
        },
        "prompts.scenarios_prompts.sources.arithmetic": source,
        "filter.general_data.min_rows": 1,
        "preference.reward_model": {"drop_longer": True},
    }
    change(copy, values, "tracks/r1/params.yaml")
    dvc(copy, "repro", ALL)
    return copy


def test_all_models_are_in_one_table(tracks: Path) -> None:
    for model in MODELS:
        cell = read(tracks, f"metrics/results/evaluate/{model}.json")["arithmetic"]
        assert cell["num_problems"] == 40
        assert 0 <= cell["accuracy"] <= cell["flexible_accuracy"] <= 1
    base = read(tracks, "metrics/results/evaluate/base.json")
    assert base == read(tracks, "metrics/evaluate/base.json")
    page = (tracks / "metrics/results/report/results.md").read_text(encoding="utf-8")
    assert f"| task | % of problems | base | {' | '.join(MODELS)} |" in page
    assert "scenarios - second_sft" in page


def test_each_step_begins_with_the_model_that_the_paper_says(tracks: Path) -> None:
    def read_inputs(run: str) -> set[str]:
        return {path for path in read(tracks, f"runs/{run}.json")["inputs"] if "jsonl" not in path}

    assert read_inputs("grpo-r1-zero-zero") == {"artifacts/base"}
    assert read_inputs("generate-r1-cold_start_samples") == {"artifacts/base"}
    assert read_inputs("sft-r1-cold_start") == {"artifacts/base"}
    assert read_inputs("grpo-r1-reasoning_rl") == {"artifacts/r1/cold_start"}
    assert read_inputs("generate-r1-reasoning_samples") == {"artifacts/r1/reasoning_rl"}
    assert read_inputs("sft-r1-second_sft") == {"artifacts/base"}
    assert read_inputs("grpo-r1-scenarios_rules") == {"artifacts/r1/second_sft"}
    assert read_inputs("grpo-r1-scenarios") == {
        "artifacts/r1/reward_model",
        "artifacts/r1/scenarios_rules",
    }
    assert read_inputs("sft-distill-distilled") == {"artifacts/base"}


def test_weights_are_handed_on(tracks: Path) -> None:
    def read_steps(run: str) -> list[dict[str, Any]]:
        return read_jsonl(tracks / f"runs/{run}.steps.jsonl")

    for before, after in (
        ("sft-r1-cold_start", "grpo-r1-reasoning_rl"),
        ("sft-r1-second_sft", "grpo-r1-scenarios_rules"),
        ("grpo-r1-scenarios_rules", "grpo-r1-scenarios"),
    ):
        assert read_steps(before)[-1]["weights"] == read_steps(after)[0]["weights"]


def test_second_sft_learns_reasoning_and_general_answers(tracks: Path) -> None:
    rows = read_jsonl(tracks / "artifacts/r1/second_data/train.jsonl")
    general = [row for row in rows if row["task"] == "general"]
    reasoning = [row for row in rows if row["task"] == "arithmetic"]
    assert len(general) == read(tracks, "metrics/r1/general_data.json")["num_kept"] > 0
    assert len(general) + len(reasoning) == len(rows)
    assert all(row["answer"] is None for row in general)
    assert all("<think>" in row["completion"][0]["content"] for row in reasoning)
    assert len({row["id"] for row in reasoning}) == len(reasoning), "one trace per problem"


def test_general_problems_have_the_reward_model_s_reward(tracks: Path) -> None:
    log = read_jsonl(tracks / "artifacts/r1/scenarios/log.jsonl")
    assert all(isinstance(row["reward_model/reward_model"], float) for row in log)
    assert (
        "reward_model/reward_model"
        not in read_jsonl(tracks / "artifacts/r1/scenarios_rules/log.jsonl")[0]
    )


def test_scenarios_have_the_core_s_evaluation_and_none_of_it_in_training(tracks: Path) -> None:
    def read_ids(name: str) -> set[str]:
        return {row["id"] for row in read_jsonl(tracks / "artifacts" / name)}

    asked = read_ids("prompts/evaluate/arithmetic.jsonl")
    assert read_ids("r1/scenarios_prompts/evaluate/arithmetic.jsonl") == asked
    assert read_ids("r1-zero/zero_prompts/evaluate/arithmetic.jsonl") == asked
    for name in ("r1/scenarios_prompts/rl.jsonl", "r1-zero/zero_prompts/rl.jsonl"):
        assert not read_ids(name) & asked


def test_second_run_runs_nothing(tracks: Path) -> None:
    assert "Data and pipelines are up to date." in dvc(tracks, "repro", ALL)


def test_core_is_what_it_was(recipe: Path, tracks: Path) -> None:
    assert (tracks / "dvc.lock").read_bytes() == (recipe / "dvc.lock").read_bytes()


def test_change_of_a_section_runs_it_and_what_follows(tracks: Path) -> None:
    path = tracks / "tracks/r1/params.yaml"
    text = path.read_bytes()
    with changed(path, text.replace(b"max_per_prompt: 1", b"max_per_prompt: 2")):
        assert would_run(tracks, ALL) == [
            "tracks/r1/dvc.yaml:evaluate@scenarios-arithmetic",
            "tracks/r1/dvc.yaml:evaluate@second_sft-arithmetic",
            "tracks/r1/dvc.yaml:scenarios",
            "tracks/r1/dvc.yaml:scenarios_rules",
            "tracks/r1/dvc.yaml:second_data",
            "tracks/r1/dvc.yaml:second_sft",
            "tracks/results/dvc.yaml:report",
        ]


def test_change_of_the_core_reaches_the_tracks(tracks: Path) -> None:
    path = tracks / "params.yaml"
    before = path.read_bytes()
    change(tracks, {"preference.seed": 1})
    after = path.read_bytes()
    path.write_bytes(before)
    with changed(path, after):
        assert would_run(tracks, ALL) == [
            "tracks/r1/dvc.yaml:evaluate@scenarios-arithmetic",
            "tracks/r1/dvc.yaml:reward_model",
            "tracks/r1/dvc.yaml:scenarios",
            "tracks/results/dvc.yaml:report",
        ]


def test_manifests_say_which_section_ran(tracks: Path) -> None:
    runs = {path.stem for path in (tracks / "runs").glob("*.json")}
    assert {"grpo-r1-zero-zero", "evaluate-distill-distilled-arithmetic"} <= runs
    lock = YAML(typ="safe", pure=True).load(tracks / "tracks/r1/dvc.lock")["stages"]
    assert json.loads(json.dumps(lock["scenarios"]["params"]))["tracks/r1/params.yaml"]
