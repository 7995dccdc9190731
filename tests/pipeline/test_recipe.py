"""The whole graph, as users run it, on a tiny model: the same dvc.yaml, stages and libraries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from stages._contract.artifacts import sha256_tree
from tests.git import git
from tests.repository import (
    call,
    change,
    changed,
    dvc,
    ran,
    read,
    start,
    succeed,
    would_run,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.pipeline

CELLS = ["evaluate@base-arithmetic", "evaluate@grpo-arithmetic", "evaluate@sft-arithmetic"]


def test_all_stages_leave_what_they_promise(recipe: Path) -> None:
    filtered = read(recipe, "metrics/filter.json")
    assert filtered["num_generated"] == 160
    assert filtered["num_kept"] + sum(filtered["rejects"].values()) == 160
    assert 0 < filtered["pass_rate"] < 1
    assert read(recipe, "metrics/grpo.json")["num_completions"] == 48
    for model in ("base", "sft", "grpo"):
        cell = read(recipe, f"metrics/evaluate/{model}.json")["arithmetic"]
        assert cell["num_problems"] == 40
        assert 0 <= cell["accuracy"] <= cell["format_rate"] <= 1
        samples = recipe / "artifacts" / "evaluate" / model / "arithmetic" / "samples.jsonl"
        assert len(samples.read_text(encoding="utf-8").splitlines()) == 40
    assert read(recipe, "metrics/paired.json")["arithmetic"]["grpo_minus_sft"]["num_problems"] == 40
    header = (recipe / "metrics/report/grpo.csv").read_text().splitlines()[0].split(",")
    assert {"step", "reward", "answer_accuracy", "completion_length", "kl", "loss"} <= set(header)
    assert "| arithmetic | right |" in (recipe / "metrics/report/results.md").read_text()
    assert [path.name for path in (recipe / "work").iterdir()] == ["live"]  # what was shown


def test_manifests_say_what_ran(recipe: Path) -> None:
    assert read(recipe, "runs/generate.json")["facts"]["generator"] == "vllm"
    assert read(recipe, "runs/grpo.json")["facts"]["generator"] == "transformers"
    assert read(recipe, "runs/evaluate-base-arithmetic.json")["facts"]["backend"] == "vllm"
    for path in (recipe / "runs").glob("*.json"):
        manifest = read(recipe, f"runs/{path.name}")
        assert manifest["packages"]["trl"] == "1.14.2"
        assert manifest["end"] >= manifest["start"]


def test_weights_differ_and_everything_else_stays(recipe: Path) -> None:
    folders = [recipe / "artifacts" / name for name in ("base", "sft", "grpo")]
    assert len({(folder / "model.safetensors").read_bytes() for folder in folders}) == 3
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1, name


def test_second_run_runs_nothing(recipe: Path) -> None:
    assert "Data and pipelines are up to date." in dvc(recipe, "repro")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"grpo.beta": 0.04}, ["evaluate@grpo-arithmetic", "grpo", "report"]),
        ({"report.confidence": 0.9}, ["report"]),
        ({"evaluate.seed": 1}, [*CELLS, "report"]),
        (
            {"filter.max_per_prompt": 1},
            [
                "evaluate@grpo-arithmetic",
                "evaluate@sft-arithmetic",
                "filter",
                "grpo",
                "report",
                "sft",
            ],
        ),
    ],
)
def test_a_changed_value_runs_what_depends_on_it(
    recipe: Path, values: dict[str, Any], expected: list[str]
) -> None:
    with changed(recipe / "params.yaml", (recipe / "params.yaml").read_bytes()):
        change(recipe, values)
        assert would_run(recipe) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stages/grpo/README.md", []),
        ("stages/grpo/rewards/accuracy.py", ["evaluate@grpo-arithmetic", "grpo", "report"]),
        ("stages/evaluate/tasks/arithmetic.yaml", [*CELLS, "report"]),
        ("stages/evaluate/tasks/larger_sums.yaml", []),
    ],
)
def test_a_touched_file_runs_what_depends_on_it(
    recipe: Path, name: str, expected: list[str]
) -> None:
    with changed(recipe / name, (recipe / name).read_bytes() + b"\n# touched\n"):
        assert would_run(recipe) == expected


def test_experiment_runs_what_depends_on_it_and_going_back_runs_nothing(recipe: Path) -> None:
    metrics, lock = recipe / "metrics/paired.json", recipe / "dvc.lock"
    before = metrics.read_bytes(), lock.read_bytes()
    values = ["-S", "grpo.beta=0.04", "-S", "report.confidence=0.8"]
    shown = dvc(recipe, "exp", "run", *values)
    assert ran(shown) == ["evaluate@grpo-arithmetic", "grpo", "report"]
    assert metrics.read_bytes() != before[0]
    rows = [line.split() for line in dvc(recipe, "params", "diff").splitlines()[1:]]
    assert rows == [
        ["params.yaml", "grpo.beta", "0.001", "0.04"],
        ["params.yaml", "report.confidence", "0.95", "0.8"],
    ]
    rows = [line.split() for line in dvc(recipe, "metrics", "diff").splitlines()[1:]]
    assert "arithmetic.grpo_minus_base.ci_low" in {row[1] for row in rows}
    for _, _, old, new, difference in rows:
        assert float(new) - float(old) == pytest.approx(float(difference), abs=2e-5)
    change(recipe, {"grpo.beta": 0.001, "report.confidence": 0.95})
    shown = dvc(recipe, "repro")
    for name in ("grpo", "evaluate@grpo-arithmetic"):
        assert f"Stage '{name}' is cached - skipping run, checking out outputs" in shown
    assert ran(shown) == ["report"]  # DVC keeps no runs of a stage whose outputs are all in git
    assert (metrics.read_bytes(), lock.read_bytes()) == before
    git(recipe, "checkout", "-q", "runs")  # what git keeps, DVC does not bring back


def test_traces_depend_on_problem_and_seed_alone(recipe: Path) -> None:
    """Other shards, and the problems in another order, give the same traces."""
    out, prompts = recipe / "artifacts/generate", recipe / "artifacts/prompts/train.jsonl"
    traces = [line for path in sorted(out.iterdir()) for line in path.read_text().splitlines()]
    assert len(traces) == len(set(traces)) == 160
    reverse = b"".join(reversed(prompts.read_bytes().splitlines(keepends=True)))
    params = recipe / "params.yaml"
    with changed(prompts, reverse), changed(params, params.read_bytes()):
        change(recipe, {"generate.shard_size": 7})
        succeed(start(recipe, "generate"))
    shards = sorted(out.iterdir())
    assert len(shards) == 6
    assert [line for path in shards for line in path.read_text().splitlines()] == traces
    dvc(recipe, "checkout", "--force", "generate")
    assert len(list(out.iterdir())) == 3


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("filter", "artifacts/generate/shard-00001.jsonl"),
        ("sft", "artifacts/base/model.safetensors"),
    ],
)
def test_corrupted_artifact_is_one_line_and_leaves_the_output(
    recipe: Path, stage: str, name: str
) -> None:
    out, content = recipe / "artifacts" / stage, (recipe / name).read_bytes()
    before = sha256_tree(out)
    with changed(recipe / name, content[: len(content) // 2]):
        done = call(recipe, "python", "-m", "stages", "run", stage)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"rederive: {stage}: {name}")
    assert "is corrupted" in line
    assert sha256_tree(out) == before


def test_plots_are_drawn(recipe: Path) -> None:
    shown = dvc(recipe, "plots", "show", "--json")
    plots = json.loads(shown)["data"]
    assert {"reward", "accuracy", "completion_length", "kl", "grpo_loss", "sft_loss"} <= set(plots)
    assert json.dumps(plots).count('"step"') > 3
