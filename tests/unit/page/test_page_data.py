"""Curves, funnels, costs and samples: values by hand."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages._contract.artifacts import write_jsonl
from stages._page import samples
from stages._page.cost import estimate_energy, read_costs
from stages._page.curves import find_in_cache, find_logs, read_curves
from stages._page.funnel import count_problems, count_traces, read_funnels
from stages._page.graph import CORE, Graph
from stages._page.results import read_tables
from stages._page.units import show_bytes, show_duration
from stages.report.stage import write_csv
from tests.filtered import RIGHT, write_filtered

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


def test_curves_are_those_of_the_reports_logs(original: Path, recorded: Graph) -> None:
    curves, missing = read_curves(original, recorded, read_tables(original))
    sft, grpo = curves[:2]
    assert (sft.stage, sft.source) == ("sft", "metrics/report/sft.csv")
    assert (grpo.stage, len(grpo.rows)) == ("grpo", 12)
    titles = [chart.title for chart in grpo.charts]
    assert titles[:2] == ["Mean reward, weighted", "Mean rewards by component"]
    assert [line.name for line in grpo.charts[1].lines] == ["answer_accuracy", "answer_format"]
    assert "Completions without a verdict, share" not in titles  # all have one
    assert {curve.stage for curve in curves} | {name.rpartition(":")[2] for name in missing} >= {
        "zero",
        "reasoning_rl",
        "reward_model",
    }


def replace_seeds(root: Path, logs: dict[int, list[dict[str, Any]]]) -> None:
    """Puts these logs of sft in the place of those of the recorded seeds."""
    for folder in (root / "metrics/seeds").glob("*/"):
        shutil.rmtree(folder)
    for seed, rows in logs.items():
        folder = root / f"metrics/seeds/{seed}"
        folder.mkdir()
        write_jsonl(folder / "sft.jsonl", rows)


def test_band_spans_the_runs_with_other_seeds(duplicate: Path, recorded: Graph) -> None:
    tables = read_tables(duplicate)
    logs = {
        seed: [{"step": step, "loss": loss} for step in range(1, 14)]
        for seed, loss in ((1, 9.0), (2, -9.0))
    }
    replace_seeds(duplicate, logs)
    sft = read_curves(duplicate, recorded, tables)[0][0]
    assert sft.seeds == [1, 2]
    chart = next(chart for chart in sft.charts if chart.title == "Loss")
    assert (chart.y_ticks[0][1], chart.y_ticks[-1][1]) == ("-10", "10")
    # 9 and -9 of 10, in 166 pixels around 93.
    assert chart.lines[0].band.startswith("M46 18.3L")
    assert chart.lines[0].band.endswith("L46 167.7Z")
    entropy = next(chart for chart in sft.charts if chart.title.startswith("Entropy"))
    assert entropy.lines[0].band == ""


def test_logs_are_found_in_the_cache_by_the_folders_digest(tmp_path: Path) -> None:
    for name, text in {
        "ab/cd.dir": json.dumps([{"relpath": "log.jsonl", "md5": "1234"}]),
        "12/34": '{"step": 1}\n',
        "ef/01.dir": json.dumps([{"relpath": "log.jsonl", "md5": "9999"}]),
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert find_in_cache(tmp_path, "abcd.dir", "log.jsonl") == '{"step": 1}\n'
    assert find_in_cache(tmp_path, "abcd.dir", "other") is None
    assert find_in_cache(tmp_path, "ef01.dir", "log.jsonl") is None
    assert find_in_cache(tmp_path, "0000.dir", "log.jsonl") is None


def test_log_of_an_output_stands_in_where_no_report_has_it(
    duplicate: Path, recorded: Graph
) -> None:
    log = duplicate / "artifacts/sft/log.jsonl"
    log.parent.mkdir(parents=True)
    write_jsonl(log, [{"step": 1, "loss": 2.0}])
    tables = read_tables(duplicate)
    assert find_logs(duplicate, recorded, tables)["sft"] == duplicate / "metrics/report/sft.csv"
    (duplicate / "metrics/report/sft.csv").unlink()
    assert find_logs(duplicate, recorded, tables)["sft"] == log


@pytest.mark.parametrize("name", ["artifacts/sft/log.jsonl", "metrics/report/sft.csv"])
def test_step_without_a_figure_is_a_gap_in_its_curve(
    duplicate: Path, recorded: Graph, name: str
) -> None:
    """TRL has no mean of a reward where no completion of a step had a verdict."""
    rows = [{"step": step, "loss": loss} for step, loss in ((1, None), (2, 3.0), (3, None), (4, 5))]
    (duplicate / "metrics/report/sft.csv").unlink()
    (duplicate / name).parent.mkdir(parents=True, exist_ok=True)
    (write_jsonl if name.endswith("jsonl") else write_csv)(duplicate / name, rows)
    replace_seeds(
        duplicate, {seed: [{"step": 2, "loss": loss}] for seed, loss in ((1, 4.0), (2, None))}
    )
    sft = read_curves(duplicate, recorded, read_tables(duplicate))[0][0]
    assert (sft.source, sft.columns) == (name, ["step", "loss"])
    assert sft.rows == [["1", "–"], ["2", "3"], ["3", "–"], ["4", "5"]]
    (chart,) = sft.charts
    (line,) = chart.lines
    assert [label for _, _, label in line.dots] == ["loss, step 2: 3", "loss, step 4: 5"]
    assert line.band.count("L") == 1  # one step, from 3 to 4


def test_funnel_of_problems_accounts_for_all() -> None:
    source = {"rows": 10, "invalid": 2, "duplicates": 3, "conflicting_answers": 1, "distinct": 6}
    splits = {"train": 2, "rl": 0, "evaluate": 1}
    funnel = count_problems("sums", {"source": source | {"new_reason": 1}, "splits": splits})
    assert [(step.label, step.count, step.kind, step.start) for step in funnel.steps] == [
        ("read or drawn", 12, "all", 0),
        ("not to be read, or without an answer", 2, "lost", 10),
        ("the same question with different answers", 1, "lost", 9),
        ("the same question again", 3, "lost", 6),
        ("new_reason", 1, "lost", 5),
        ("for traces for SFT", 2, "kept", 3),
        ("for evaluation", 1, "kept", 2),
        ("left over", 2, "spare", 0),
    ]


def test_funnel_of_traces_ends_with_what_sft_reads() -> None:
    metrics = {
        "num_generated": 10,
        "num_kept": 4,
        "num_prompts": 5,
        "num_prompts_kept": 3,
        "num_rows": 6,
        "mixed": {"artifacts/r1/general_data/train.jsonl": 2},
        "rejects": {"truncated": 1, "bad_format": 0, "wrong_answer": 5},
    }
    funnel = count_traces("filter", metrics, ("sft", 6))
    assert [(step.label, step.count, step.start) for step in funnel.steps] == [
        ("written by the model", 10, 0),
        ("cut off at the limit of tokens", 1, 9),
        ("wrong answer", 5, 4),
        ("kept", 4, 0),
    ]
    assert funnel.note == (
        "3 of 5 problems have a trace left; 2 rows of artifacts/r1/general_data/train.jsonl are "
        "mixed in; train.jsonl has 6 rows; sft read 6."
    )


def test_recorded_funnels_account_for_all(original: Path, recorded: Graph) -> None:
    funnels = read_funnels(original, recorded)
    assert [funnel.title for funnel in funnels[CORE]] == ["arithmetic", "larger_sums", "filter"]
    for found in funnels.values():
        for funnel in found:
            assert sum(step.count for step in funnel.steps[1:]) == funnel.total
    rows = json.loads((original / "metrics/sft.json").read_text())["num_samples"]
    assert funnels[CORE][-1].note.endswith(f"; sft read {rows}.")


def test_energy_is_estimated_by_the_formula() -> None:
    # Half an hour of 2 threads at 12 W, and 4 GB at 0.3725 W each.
    assert estimate_energy(1800, 2, 4 * 10**9) == pytest.approx(0.5 * (24 + 1.49))
    assert estimate_energy(1800, None, 4 * 10**9) is None


def test_costs_are_those_of_the_manifests(original: Path, recorded: Graph) -> None:
    logs = find_logs(original, recorded, read_tables(original))
    core = read_costs(original, recorded, logs)[0]
    runs = {stage.name: stage.manifest or {} for stage in recorded.of(CORE)}
    assert core.duration_s == pytest.approx(sum(run["duration_s"] for run in runs.values()))
    by_stage = {cost.stage: cost for cost in core.costs}
    evaluation = by_stage["evaluate@base-arithmetic"]
    run = runs["evaluate@base-arithmetic"]
    assert evaluation.tokens_per_s == pytest.approx(
        run["facts"]["num_generated_tokens"] / run["duration_s"]
    )
    assert evaluation.core_hours == pytest.approx(2 * run["duration_s"] / 3600)
    grpo = by_stage["grpo"]
    lengths = [float(line.split(",")[3]) for line in logs["grpo"].read_text().splitlines()[1:]]
    assert grpo.num_tokens == pytest.approx(32 * sum(lengths))
    assert by_stage["filter"].core_hours is None
    assert core.peak_memory_bytes == max(run["peak_memory_bytes"] for run in runs.values())


def test_what_grpo_sampled_besides_costs_tokens_too(tmp_path: Path, recorded: Graph) -> None:
    """Of 20 completions in 2 steps, of 10 and 30 tokens on average, and half as many again."""
    (stage,) = (stage for stage in recorded.of(CORE) if stage.name == "grpo")
    metrics = {"num_completions": 20, "num_steps": 2, "resampled_rate": 0.5}
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/grpo.json").write_text(json.dumps(metrics))
    log = tmp_path / "grpo.csv"
    log.write_text("step,completion_length\n1,10.0\n2,30.0\n")
    graph = replace(recorded, stages={stage.address: stage})
    (cost,) = read_costs(tmp_path, graph, {stage.address: log})[0].costs
    assert cost.num_tokens == 10 * 40 * 1.5


def test_graph_that_never_ran_costs_nothing(original: Path, recorded: Graph) -> None:
    stages = {name: replace(stage, manifest=None) for name, stage in recorded.stages.items()}
    assert read_costs(original, replace(recorded, stages=stages), {}) == []


def make_rows(texts: list[str], **columns: Any) -> list[dict[str, Any]]:
    row = {"id": "p1", "question": "1 + 1?", "answer": "2"}
    judged = {"correct": [True, False, False], "formatted": [True, True, False]}
    return [row | judged | {"num_tokens": [5, 6, 7], "responses": texts} | columns]


def read_core(root: Path, recorded: Graph) -> samples.Source:
    tables = [table for table in read_tables(root) if table.graph == CORE]
    sources, _ = samples.read_samples(root, recorded, tables, samples.Rewards(root))
    return sources[0]


def write_samples(root: Path, rows: list[dict[str, Any]]) -> None:
    for path in (root / "metrics/report/samples").rglob("*.jsonl"):
        write_jsonl(path, rows)


def test_responses_have_outcomes_and_rewards_by_component(duplicate: Path, recorded: Graph) -> None:
    write_samples(duplicate, make_rows([RIGHT, RIGHT.replace("2<", "3<"), HOSTILE]))
    source = read_core(duplicate, recorded)
    assert source.models == ["base", "sft", "grpo"]
    assert (source.num_problems, len(source.problems)) == (2, 2)
    first = source.problems[0]["responses"][:3]
    assert [entry["outcome"] for entry in first] == ["right", "wrong", "not in the format"]
    assert [entry["rewards"] for entry in first] == [
        {"answer_accuracy": 1.0, "answer_format": 1.0},
        {"answer_accuracy": 0.0, "answer_format": 1.0},
        {"answer_accuracy": 0.0, "answer_format": 0.0},
    ]
    assert first[2]["text"] == HOSTILE
    assert not source.is_cut


def test_answers_alone_have_no_rewards(duplicate: Path, recorded: Graph) -> None:
    (row,) = make_rows([])
    del row["responses"]
    write_samples(duplicate, [row | {"answers": ["2", "3", None]}])
    first = read_core(duplicate, recorded).problems[0]["responses"]
    assert [entry["text"] for entry in first[:3]] == ["2", "3", ""]
    assert all(entry["is_answer"] and "rewards" not in entry for entry in first)


def test_what_is_too_long_or_too_much_is_cut_and_said_so(
    duplicate: Path, recorded: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = make_rows(["x" * 5000, "y", "z"])
    write_samples(duplicate, [row | {"id": f"p{n}"} for n in range(9)])
    monkeypatch.setattr(samples, "MAX_PROBLEMS", 5)
    source = read_core(duplicate, recorded)
    assert (source.num_problems, len(source.problems), source.is_cut) == (18, 10, True)
    text = source.problems[0]["responses"][0]["text"]
    assert (text.count("x"), text.lstrip("x")) == (4000, " […1,000 characters more]")
    monkeypatch.setattr(samples, "MAX_TOTAL_CHARS", 3 * 12_000)  # a problem has 87 more
    num_shown = len(read_core(duplicate, recorded).problems)
    assert num_shown == 2
    monkeypatch.setattr(samples, "MAX_RESPONSES", 1)
    num_responses = len(read_core(duplicate, recorded).problems[0]["responses"])
    assert num_responses == 3  # one per model


def test_traces_have_the_filters_reasons(duplicate: Path, recorded: Graph) -> None:
    wrong = {"id": "p1", "sample": 0, "reason": "wrong_answer", "response": "3"}
    cut = {"id": "p2", "sample": 0, "reason": "truncated", "response": "4"}
    write_filtered(duplicate, 1, [wrong, cut])
    rewards = samples.Rewards(duplicate)
    (source,), missing = samples.read_samples(duplicate, recorded, [], rewards)
    assert source.title == "Training traces, filter"
    first, second = source.problems
    assert [(entry["model"], entry["outcome"]) for entry in first["responses"]] == [
        ("trace 0", "wrong answer"),
        ("trace 1", "kept"),
    ]
    assert first["responses"][1]["rewards"] == {"answer_accuracy": 1.0, "answer_format": 1.0}
    assert (second["question"], second["answer"]) == ("(problem p2)", "")
    assert "rewards" not in second["responses"][0]
    (text,) = (text for text in missing if text.startswith("traces of second_data: "))
    assert text.endswith("dvc repro tracks/r1/dvc.yaml:second_data")


def test_units() -> None:
    assert [show_bytes(n) for n in (229, 99_000, 541_614_934, 6_785_175_552)] == [
        "229 B",
        "97 KiB",
        "517 MiB",
        "6.3 GiB",
    ]
    assert [show_duration(s) for s in (0.52, 20.8, 333.2, 36_000)] == [
        "0.5 s",
        "21 s",
        "5.6 min",
        "10.0 h",
    ]
