"""Verdicts against values worked out by hand, and the page for a change of this repository."""

from __future__ import annotations

import json
from math import sqrt
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages._audit.compare import judge, render_comparison
from stages._audit.git import read_at, read_commit
from tests.git import git

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = "metrics/report/samples/grpo/arithmetic.jsonl"
Z95, Z80 = 1.959964, 0.841621


def accuracies(*values: float, prefix: str = "p") -> dict[str, float]:
    return {f"{prefix}{number}": value for number, value in enumerate(values)}


def test_paired_verdict_has_the_values_of_the_differences() -> None:
    # Differences 0, 1, 0, 0: mean 1/4, sample variance 1/4, standard error 1/4.
    found = judge(accuracies(0, 0, 0, 1), accuracies(0, 1, 0, 1), 0.95)
    assert (found.before, found.after, found.stderr) == (0.25, 0.5, 0.25)
    assert found.ci_low == pytest.approx(0.25 - Z95 / 4)
    assert found.ci_high == pytest.approx(0.25 + Z95 / 4)
    assert found.minimum_detectable_effect == pytest.approx((Z95 + Z80) / 4)
    assert found.word == "no evidence"


def test_other_problems_are_not_paired() -> None:
    found = judge(accuracies(0, 0, 0, 1), accuracies(0, 1, 1, 1, prefix="q"), 0.95)
    # Both have the sample variance 1/4 and so the standard error 1/4.
    assert not found.is_paired
    assert found.stderr == pytest.approx(sqrt(2) / 4)
    assert found.after - found.before == 0.5


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ([0.0] * 9 + [1.0], [1.0] * 10, "**better**"),
        ([1.0] * 10, [0.0] * 9 + [1.0], "**worse**"),
        ([0.0, 1.0], [0.0, 1.0], "the same answers"),
        ([0.0, 1.0], [1.0, 0.0], "no evidence"),
    ],
)
def test_word(before: list[float], after: list[float], word: str) -> None:
    assert judge(accuracies(*before), accuracies(*after), 0.95).word == word


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 1.0])), min_size=2)
)
def test_going_back_turns_the_verdict_round(pairs: list[tuple[float, float]]) -> None:
    one, two = (accuracies(*values) for values in zip(*pairs, strict=True))
    there, back = judge(one, two, 0.9), judge(two, one, 0.9)
    assert there.ci_low == pytest.approx(-back.ci_high)
    assert there.stderr == pytest.approx(back.stderr)
    assert there.ci_low <= there.after - there.before <= there.ci_high


def test_page_of_no_change_says_so(original: Path) -> None:
    page = render_comparison(original, "HEAD")
    assert page.startswith(f"# Compared with HEAD ({read_commit(original, 'HEAD')[:10]})\n")
    for text in ("No value changed.", "No stage ran.", "None changed."):
        assert text in page
    assert "\nStages, parameters and results of core, r1-zero, r1, distill, results.\n" in page
    core, tracks = page.split("\n## Accuracy, %")[1:]
    assert core.count("| the same answers |\n") == 6
    assert tracks.startswith(": metrics/results\n")
    assert tracks.count("| the same answers |\n") == 14
    rows = [line.split(" | ")[:2] for line in tracks.splitlines() if line.startswith("| larger")]
    models = ["base", "zero", "cold_start", "reasoning_rl", "second_sft", "scenarios", "distilled"]
    assert rows == [["| larger_sums", model] for model in models]
    assert "better" not in page


def test_page_of_a_change_names_it(duplicate: Path) -> None:
    lines = (duplicate / SAMPLES).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    right = [row for row in rows if row["correct"] == [True]]
    for row in right[:24]:
        row["correct"] = [False]
    (duplicate / SAMPLES).write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("params.yaml", "dvc.lock"):
        text = (duplicate / name).read_text(encoding="utf-8")
        (duplicate / name).write_text(text.replace("beta: 0.001", "beta: 0.04"), encoding="utf-8")
    metrics = duplicate / "metrics" / "grpo.json"
    values = json.loads(metrics.read_text(encoding="utf-8"))
    metrics.write_text(json.dumps(values | {"num_steps": 99}))
    page = render_comparison(duplicate, "HEAD")
    assert "| `grpo.beta` | 0.001 | 0.04 |\n" in page
    stages = page.partition("## Stages that ran again")[2].partition("##")[0]
    assert "| grpo | params | " in stages
    assert stages.count("\n| ") == 2  # and the header
    (line,) = [line for line in page.splitlines() if line.startswith("| arithmetic | grpo |")]
    assert "| -10.0 ± 1.9 | -13.8 to -6.2 |" in line
    assert line.endswith("| **worse** |")
    assert f"| `metrics/grpo.json` | `num_steps` | {values['num_steps']} | 99 |\n" in page


def test_page_of_a_change_of_a_track_names_it(duplicate: Path) -> None:
    for name in ("params.yaml", "dvc.lock"):
        path = duplicate / "tracks/r1" / name
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("max_per_prompt: 1\n", "max_per_prompt: 3\n"))
    samples = duplicate / SAMPLES.replace("report/", "results/report/").replace(
        "/grpo/", "/scenarios/"
    )
    text = samples.read_text(encoding="utf-8")
    samples.write_text(text.replace('"correct": [true]', '"correct": [false]'))
    values = json.loads((duplicate / "metrics/r1/scenarios.json").read_text(encoding="utf-8"))
    (duplicate / "metrics/r1/scenarios.json").write_text(json.dumps(values | {"num_steps": 99}))
    scores = duplicate / "metrics/results/evaluate/scenarios.json"
    scores.write_text(scores.read_text().replace('"num_samples": 1', '"num_samples": 2'))
    page = render_comparison(duplicate, "HEAD")
    name = "tracks/r1/params.yaml:filter.second_data.max_per_prompt"
    assert f"| `{name}` | 1 | 3 |\n" in page
    run = json.loads((duplicate / "runs/filter-r1-second_data.json").read_text(encoding="utf-8"))
    row = f"| tracks/r1/dvc.yaml:second_data | params | {run['duration_s']:.0f} s | "
    assert row in page.partition("## Stages that ran again")[2].partition("##")[0]
    core, tracks = page.split("\n## Accuracy, %")[1:]
    assert core.count("| the same answers |\n") == 6
    assert tracks.count("| the same answers |\n") == 13
    (line,) = [line for line in tracks.splitlines() if line.endswith("| **worse** |")]
    assert line.startswith("| arithmetic | scenarios |")
    rows = [line for line in page.partition("## Other metrics")[2].splitlines() if "`" in line]
    old = values["num_steps"]
    assert rows == [f"| `metrics/r1/scenarios.json` | `num_steps` | {old} | 99 |"]


def test_other_output_from_the_same_inputs_stands_out(duplicate: Path) -> None:
    text = (duplicate / "dvc.lock").read_text(encoding="utf-8")
    old = text.partition("- path: artifacts/grpo\n      hash: md5\n      md5: ")[2][:32]
    (duplicate / "dvc.lock").write_text(text.replace(old, old[::-1]), encoding="utf-8")
    page = render_comparison(duplicate, "HEAD")
    assert "| grpo | **nothing: other output from the same inputs** | " in page
    assert "| evaluate@grpo-arithmetic | artifacts/grpo | " in page


def test_unknown_revision_is_named(duplicate: Path) -> None:
    with pytest.raises(ValueError, match="git knows no revision 'nix': name a branch"):
        render_comparison(duplicate, "nix")
    assert read_at(duplicate, "HEAD", "nix") is None
    git(duplicate, "tag", "v1")
    assert read_at(duplicate, "v1", ".ci/run") == (duplicate / ".ci/run").read_text()
