"""The tables of results: values by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from stages._page.graph import CORE
from stages._page.results import Pair, Seeds, read_seeds, read_tables


def test_seeds_have_students_interval() -> None:
    seeds = Seeds([(0, 0.1), (1, 0.2), (2, 0.3)])
    assert seeds.mean == pytest.approx(0.2)
    assert seeds.stderr == pytest.approx(0.1 / 3**0.5)
    # t with 2 degrees of freedom at 97.5 %: 4.30265.
    assert seeds.find_interval(0.95) == pytest.approx(
        (0.2 - 4.30265 * 0.0577350, 0.2 + 4.30265 * 0.0577350), rel=1e-5
    )


def test_seeds_of_a_model_and_of_a_difference() -> None:
    runs = {
        1: {"sums": {"a": 0.25, "b": 0.5}},
        0: {"sums": {"a": 0.5, "b": 0.5}},
        2: {"sums": {"a": 1.0}},
        3: {},
    }
    found = read_seeds(runs, "sums", "a")
    assert found is not None
    assert found.values == [(0, 0.5), (1, 0.25), (2, 1.0)]
    found = read_seeds(runs, "sums", "b", "a")
    assert found is not None
    assert found.values == [(0, 0.0), (1, 0.25)]
    assert read_seeds({0: runs[0]}, "sums", "a") is None


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.2, "better"),
        (-0.2, -0.01, "worse"),
        (-0.1, 0.1, "no evidence"),
        (0, 0, "no evidence"),
    ],
)
def test_verdicts(low: float, high: float, verdict: str) -> None:
    values: dict[str, Any] = {"difference": 0.0, "stderr": 0.1, "num_gained": 1, "num_lost": 1}
    pair = Pair("a", "b", low=low, high=high, seeds=None, **values)
    assert pair.verdict == verdict
    assert pair.judge_seeds(0.95) is None
    pair = Pair("a", "b", low=low, high=high, seeds=Seeds([(0, 0.5), (1, 0.6)]), **values)
    assert pair.judge_seeds(0.5) == "better"
    assert pair.judge_seeds(0.99) == "no evidence"


def test_recorded_table_is_that_of_metrics(original: Path) -> None:
    core = read_tables(original)[0]
    assert (core.graph, core.command, core.seed) == (CORE, "dvc repro", 0)
    cell = json.loads((original / "metrics/evaluate/grpo.json").read_text())["arithmetic"]
    task = next(task for task in core.tasks if task.name == "arithmetic")
    score = task.scores[-1]
    assert (score.model, score.value) == ("grpo", cell["accuracy"])
    assert score.low == pytest.approx(score.value - 1.959964 * cell["accuracy_stderr"])
    pair = json.loads((original / "metrics/paired.json").read_text())["arithmetic"]
    found = next(p for p in task.pairs if (p.first, p.second) == ("sft", "grpo"))
    assert found.low == pair["grpo_minus_sft"]["ci_low"]
    assert found.num_lost == pair["grpo_minus_sft"]["num_lost"]
    assert found.seeds is not None
    assert found.seeds.values[0][0] == 0
    assert found.seeds.values[0][1] == pytest.approx(pair["grpo_minus_sft"]["difference"])
    assert core.seeds == [0, 1, 2, 3, 4]


def test_interval_of_a_share_stays_within_0_and_1(duplicate: Path) -> None:
    path = duplicate / "metrics/evaluate/grpo.json"
    cells = json.loads(path.read_text())
    cells["arithmetic"] |= {"accuracy": 0.99, "accuracy_stderr": 0.02}
    path.write_text(json.dumps(cells))
    score = read_tables(duplicate)[0].tasks[0].scores[-1]
    assert (score.model, score.high) == ("grpo", 1.0)


def test_table_that_is_not_recorded_says_what_makes_it(duplicate: Path) -> None:
    shutil.rmtree(duplicate / "metrics")
    tables = read_tables(duplicate)
    assert [table.tasks for table in tables] == [[], []]
    assert [table.command for table in tables] == [
        "dvc repro",
        "dvc repro tracks/results/dvc.yaml:report",
    ]


def test_tracks_table_is_read_from_its_own_folder(duplicate: Path) -> None:
    models = ["base", "zero", "cold_start", "reasoning_rl", "second_sft", "scenarios", "distilled"]
    folder = duplicate / "metrics/results"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "evaluate").mkdir(parents=True)
    for model in models:
        shutil.copy(duplicate / "metrics/evaluate/grpo.json", folder / f"evaluate/{model}.json")
    paired = json.loads((duplicate / "metrics/paired.json").read_text())
    (table,) = (table for table in read_tables(duplicate) if table.graph == "results")
    assert table.tasks == []
    pairs = [f"{second}_minus_{first}" for first, second in table.params.pairs]
    values = {t: dict.fromkeys(pairs, found["grpo_minus_sft"]) for t, found in paired.items()}
    (folder / "paired.json").write_text(json.dumps(values))
    (table,) = (table for table in read_tables(duplicate) if table.graph == "results")
    assert [score.model for score in table.tasks[0].scores] == models
    assert len(table.tasks[0].pairs) == 7
    assert table.seeds == [0]
