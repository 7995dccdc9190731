"""Every trace ends up in one file, for a reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages._contract.artifacts import read_jsonl, write_jsonl
from stages.filter.params import FilterInputs, FilterParams
from stages.filter.select import REASONS, select
from stages.filter.stage import run

DEFAULTS: dict[str, Any] = {
    "image": "cpu",
    "seed": 0,
    "min_pass_rate": 0.1,
    "max_pass_rate": 1.0,
    "max_per_prompt": 2,
    "order": "shortest",
    "generations": "artifacts/generate",
    "prompts": "artifacts/prompts/train.jsonl",
    "min_rows": 1,
}


def params(**changes: Any) -> FilterParams:
    return FilterParams(**(DEFAULTS | changes))


def response(think: str, answer: int) -> str:
    return f"<think>{think}</think><answer>{answer}</answer>"


def trace(name: str, sample: int, text: str, **changes: Any) -> dict[str, Any]:
    row = {"id": name, "sample": sample, "response": text}
    return row | {"finish_reason": "stop", "num_tokens": len(text)} | changes


def problem(name: str, answer: str) -> dict[str, Any]:
    return {
        "id": name,
        "task": "sums",
        "prompt": [{"role": "user", "content": f"{name}?"}],
        "answer": answer,
    }


@pytest.fixture
def inputs(tmp_path: Path) -> FilterInputs:
    """Returns the inputs of two problems with four traces each, in two shards."""
    generations = tmp_path / "generate"
    generations.mkdir()
    easy = [response("b", 3), response("a", 3), response("a ", 3), response("longer", 3)]
    hard = ["no format", response("x", 4), response("y", 5), response("z", 5)]
    write_jsonl(generations / "shard-0.jsonl", [trace("p1", n, t) for n, t in enumerate(easy)])
    rows = [trace("p2", n, t) for n, t in enumerate(hard)]
    rows[3]["finish_reason"] = "length"
    write_jsonl(generations / "shard-1.jsonl", rows)
    prompts = tmp_path / "train.jsonl"
    write_jsonl(prompts, [problem("p2", "5"), problem("p1", "3")])
    return FilterInputs(generations=generations, prompts=prompts)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Returns an empty folder."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_rows_rejects_and_metrics(inputs: FilterInputs, out: Path) -> None:
    metrics = run(params(), inputs, out, out)["filter"]
    kept = read_jsonl(out / "train.jsonl")
    assert [(row["id"], row["sample"]) for row in kept] == [("p1", 0), ("p1", 1), ("p2", 2)]
    assert kept[2] == problem("p2", "5") | {
        "sample": 2,
        "completion": [{"role": "assistant", "content": response("y", 5)}],
    }
    reasons = {(r["id"], r["sample"]): r["reason"] for r in read_jsonl(out / "rejects.jsonl")}
    assert reasons == {
        ("p1", 2): "duplicate",
        ("p1", 3): "over_cap",
        ("p2", 0): "bad_format",
        ("p2", 1): "wrong_answer",
        ("p2", 3): "truncated",
    }
    assert metrics["num_generated"] == 8
    assert metrics["num_kept"] == 3
    assert metrics["num_prompts_kept"] == 2
    assert metrics["pass_rate"] == pytest.approx((1.0 + 0.25) / 2)
    assert metrics["pass_rate_stderr"] == pytest.approx(0.375)  # (1 - 0.25) / 2, of two problems
    assert metrics["pass_at_k"] == 1.0
    assert metrics["rejects"]["truncated"] == 1
    card = (out / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "| wrong_answer | 1 |" in card


@pytest.mark.parametrize(
    ("band", "reason"),
    [({"min_pass_rate": 0.5}, "pass_rate_low"), ({"max_pass_rate": 0.3}, "pass_rate_high")],
)
def test_problems_outside_the_band_are_left_out(
    inputs: FilterInputs, out: Path, band: dict[str, float], reason: str
) -> None:
    run(params(**band), inputs, out, out)
    left_out = "p2" if reason == "pass_rate_low" else "p1"
    assert left_out not in {row["id"] for row in read_jsonl(out / "train.jsonl")}
    rejects = read_jsonl(out / "rejects.jsonl")
    assert reason in {row["reason"] for row in rejects if row["id"] == left_out}


def test_too_few_rows_say_why(inputs: FilterInputs, out: Path) -> None:
    with pytest.raises(ValueError, match=r"only 3 traces are left.*min_rows = 4 .*'duplicate': 1"):
        run(params(min_rows=4), inputs, out, out)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (trace("p3", 0, "x"), "a trace for 'p3', which is not among"),
        (trace("p2", 7, "x"), r"samples \[0, 1, 2, 3, 7\] of p2, not 0 to 3"),
        (trace("p2", 3, "x"), r"samples \[0, 1, 2, 3, 3\] of p2"),
    ],
)
def test_traces_must_belong_to_the_problems(
    inputs: FilterInputs, out: Path, row: dict[str, Any], message: str
) -> None:
    write_jsonl(inputs.generations / "shard-2.jsonl", [row])
    with pytest.raises(ValueError, match=message):
        run(params(), inputs, out, out)


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(["right a", "right b", "right c", "wrong"]), min_size=1, max_size=9),
    st.integers(1, 3),
    st.sampled_from(["random", "shortest"]),
)
def test_selection_obeys_its_bounds(kinds: list[str], cap: int, order: str) -> None:
    samples = [trace("p", n, response(kind, 1)) for n, kind in enumerate(kinds)]
    reasons = ["wrong_answer" if kind == "wrong" else None for kind in kinds]
    final = select(samples, reasons, params(max_per_prompt=cap, order=order, min_pass_rate=0.0))
    kept = [kind for kind, reason in zip(kinds, final, strict=True) if reason is None]
    distinct = set(kinds) - {"wrong"}
    assert len(kept) == min(cap, len(distinct))
    assert max(Counter(kept).values(), default=1) == 1
    assert set(filter(None, final)) <= set(REASONS)
    assert [reason for reason in final if reason == "wrong_answer"] == [
        "wrong_answer"
    ] * kinds.count("wrong")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_pass_rate": -0.1}, "filter.min_pass_rate"),
        ({"max_pass_rate": 1.1}, "filter.max_pass_rate"),
        ({"min_pass_rate": 0.9, "max_pass_rate": 0.5}, "a band within"),
        ({"max_per_prompt": 0}, "filter.max_per_prompt must be >= 1, not 0"),
        ({"min_rows": 0}, "filter.min_rows must be >= 1, not 0"),
    ],
)
def test_bounds(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        params(**changes)
