"""The table, the paired differences and the curves, against values computed by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages._contract.artifacts import read_jsonl, write_json, write_jsonl
from stages.report.paired import compare
from stages.report.params import ReportInputs, ReportParams
from stages.report.stage import run
from stages.report.table import percent

CORRECT = {"base": [0, 0, 0, 0], "sft": [1, 0, 0, 1], "grpo": [1, 1, 0, 1]}


@pytest.fixture
def inputs(tmp_path: Path) -> ReportInputs:
    """Returns one task's evaluations of four problems, and two short training logs."""
    for model, values in CORRECT.items():
        folder = tmp_path / "evaluate" / model / "sums"
        folder.mkdir(parents=True)
        accuracy = sum(values) / 4
        results: dict[str, Any] = {"accuracy": accuracy, "accuracy_stderr": 0.1, "num_problems": 4}
        results |= {"format_rate": 0.5, "format_rate_stderr": 0.2, "num_samples": 4}
        given = None if model == "base" else accuracy
        results |= {"accuracy_given_format": given, "accuracy_given_format_stderr": given}
        write_json(folder / "results.json", results)
        rows = [{"id": f"p{n}", "correct": [bool(value)]} for n, value in enumerate(values)]
        write_jsonl(folder / "samples.jsonl", rows)
    problems = [
        {"id": f"p{n}", "answer": f"{n}", "prompt": [{"role": "user", "content": f"Say {n}."}]}
        for n in range(4)
    ]
    (tmp_path / "problems").mkdir()
    write_jsonl(tmp_path / "problems" / "sums.jsonl", problems)
    write_jsonl(tmp_path / "sft.jsonl", [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}])
    write_jsonl(tmp_path / "grpo.jsonl", [{"step": 1, "reward": 0.5, "kl": 0.0}])
    return ReportInputs(
        evaluations=[tmp_path / "evaluate" / model for model in CORRECT],
        problems=tmp_path / "problems",
        logs=[tmp_path / "sft.jsonl", tmp_path / "grpo.jsonl"],
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Returns an empty folder."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


PARAMS = ReportParams(
    image="cpu",
    recipe="smollm2-cpu",
    tasks=["sums"],
    models={model: f"artifacts/evaluate/{model}" for model in CORRECT},
    pairs=[["base", "sft"], ["sft", "grpo"], ["base", "grpo"]],
    problems="artifacts/prompts/evaluate",
    logs={"sft": "artifacts/sft/log.jsonl", "grpo": "artifacts/grpo/log.jsonl"},
    confidence=0.95,
)


def test_metrics_and_files(inputs: ReportInputs, out: Path) -> None:
    metrics = run(PARAMS, inputs, out, out)
    assert metrics["evaluate/sft"]["sums"]["accuracy"] == 0.5
    pair = metrics["paired"]["sums"]["grpo_minus_sft"]
    # Differences 0, 1, 0, 0: mean 1/4, sample variance (3 x 1/16 + 9/16) / 3 = 1/4.
    assert pair["difference"] == 0.25
    assert pair["stderr"] == pytest.approx(sqrt(1 / 4 / 4))
    assert pair["ci_low"] == pytest.approx(0.25 - 1.959964 * 0.25)
    assert pair["ci_high"] == pytest.approx(0.25 + 1.959964 * 0.25)
    assert (pair["num_gained"], pair["num_lost"], pair["num_problems"]) == (1, 0, 4)
    assert list(metrics["paired"]["sums"]) == [
        "sft_minus_base",
        "grpo_minus_sft",
        "grpo_minus_base",
    ]
    assert (out / "sft.csv").read_text() == "step,loss\n1,2.0\n2,1.5\n"
    assert (out / "grpo.csv").read_text() == "step,kl,reward\n1,0.0,0.5\n"
    samples = read_jsonl(out / "samples" / "sft" / "sums.jsonl")
    assert samples[3] == {"id": "p3", "correct": [True], "question": "Say 3.", "answer": "3"}
    assert len(samples) == 4
    page = (out / "results.md").read_text(encoding="utf-8")
    assert "| sums | right | 0.0 ± 10.0 | 50.0 ± 10.0 | 75.0 ± 10.0 |\n" in page
    assert "| sums | right, of those in the format | – | 50.0 ± 50.0 | 75.0 ± 75.0 |\n" in page
    assert "| sums | grpo - sft: +25.0 ± 25.0 | -24.0 to +74.0 | 1 / 0 |\n" in page


def test_answers_stand_for_long_responses(inputs: ReportInputs, out: Path) -> None:
    """With answers and a scorer's own result: no thoughts in git, and one more line."""
    for folder in inputs.evaluations:
        path = folder / "sums" / "samples.jsonl"
        answers = {"answers": ["1", "2"], "columns": {}, "responses": ["long", "longer"]}
        write_jsonl(path, [row | answers for row in read_jsonl(path)])
        path = folder / "sums" / "results.json"
        more = {"num_samples": 8, "majority_accuracy": 0.25, "majority_accuracy_stderr": 0.25}
        write_json(path, json.loads(path.read_text()) | more | {"bias_score": -0.125})
    run(PARAMS, inputs, out, out)
    (row, *_) = read_jsonl(out / "samples" / "sft" / "sums.jsonl")
    assert row["answers"] == ["1", "2"]
    assert "responses" not in row
    page = (out / "results.md").read_text(encoding="utf-8")
    votes = "| 25.0 ± 25.0 " * 3
    assert f"| sums | of problems: most answers right (cons@k) {votes}|\n" in page
    assert f"| sums | bias score {'| -12.5 ' * 3}|\n" in page


def test_response_to_no_problem_is_named(inputs: ReportInputs, out: Path) -> None:
    path = inputs.problems / "sums.jsonl"
    write_jsonl(path, read_jsonl(path)[:3])
    with pytest.raises(ValueError, match=r"response of base to p3, which is not in .*sums\.jsonl"):
        run(PARAMS, inputs, out, out)


def damage(inputs: ReportInputs, name: str, content: str) -> None:
    (inputs.evaluations[1] / "sums" / name).write_text(content)


def test_missing_cell(inputs: ReportInputs, out: Path) -> None:
    (inputs.evaluations[1] / "sums" / "results.json").unlink()
    with pytest.raises(ValueError, match="results.json is not there: run `dvc repro evaluate`"):
        run(PARAMS, inputs, out, out)


@pytest.mark.parametrize("content", ["{", "[]", '{"acc": 1}'])
def test_corrupted_results(inputs: ReportInputs, out: Path, content: str) -> None:
    damage(inputs, "results.json", content)
    with pytest.raises(ValueError, match="sft/sums is corrupted"):
        run(PARAMS, inputs, out, out)


def test_results_that_disagree_with_the_samples(inputs: ReportInputs, out: Path) -> None:
    damage(inputs, "results.json", '{"accuracy": 0.75}')
    with pytest.raises(ValueError, match="says accuracy 0.75, which is not that of the 4 rows"):
        run(PARAMS, inputs, out, out)


def test_different_problems(inputs: ReportInputs, out: Path) -> None:
    rows = [{"id": f"q{n}", "correct": [bool(value)]} for n, value in enumerate(CORRECT["sft"])]
    write_jsonl(inputs.evaluations[1] / "sums" / "samples.jsonl", rows)
    with pytest.raises(ValueError, match=r"base and sft were asked different .* \(p0 and 7 more\)"):
        run(PARAMS, inputs, out, out)


def test_percent() -> None:
    assert percent(0.3333, 0.0272) == "33.3 ± 2.7"
    assert percent(-0.05, 0.01, sign="+") == "-5.0 ± 1.0"
    assert percent(None, None) == "–"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": []}, "report.tasks"),
        ({"tasks": ["a", "a"]}, "each once"),
        ({"confidence": 95}, "must be in"),
        ({"models": {}}, "report.models names no model"),
        ({"models": {"base": "/x"}}, r"report\.models\.base must lie below .* not '/x'"),
        ({"logs": {"sft": "../log"}}, r"report\.logs\.sft must lie below"),
        ({"pairs": [["base", "gpt"]]}, r"pairs of two of base, sft, grpo, not \['base', 'gpt'\]"),
        ({"pairs": [["base"]]}, "report.pairs must hold pairs"),
    ],
)
def test_bounds(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PARAMS, **change)


shares = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=20)


@given(shares, st.floats(0.5, 0.99))
def test_swapping_the_models_negates_the_difference(
    values: list[tuple[float, float]], confidence: float
) -> None:
    first = {str(n): value for n, (value, _) in enumerate(values)}
    second = {str(n): value for n, (_, value) in enumerate(values)}
    forth, back = compare(first, second, confidence), compare(second, first, confidence)
    assert forth["difference"] == pytest.approx(-back["difference"])
    assert forth["ci_low"] == pytest.approx(-back["ci_high"])
    assert forth["num_gained"] == back["num_lost"]
    assert forth["ci_low"] <= forth["difference"] <= forth["ci_high"]
