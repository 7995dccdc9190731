"""Every trace ends up in one file, for a reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages._contract.artifacts import read_jsonl, write_jsonl
from stages.filter.mix import read_mix
from stages.filter.params import FilterInputs, FilterParams, ThoughtParams
from stages.filter.params import inputs as inputs_of
from stages.filter.select import REASONS, find_out_of_band, judge, select
from stages.filter.stage import run

THOUGHT: dict[str, Any] = {
    "language": "en",
    "min_language_consistency": None,
    "max_paragraph_chars": None,
    "reject_code_blocks": False,
    "repetition_n_grams": 2,
    "max_repetition": None,
}
DEFAULTS: dict[str, Any] = {
    "image": "cpu",
    "seed": 0,
    "min_pass_rate": 0.1,
    "max_pass_rate": 1.0,
    "max_per_prompt": 2,
    "order": "shortest",
    "generations": "artifacts/generate",
    "prompts": "artifacts/prompts/train.jsonl",
    "thought": ThoughtParams(**THOUGHT),
    "unverified_tasks": [],
    "mix": {},
    "min_rows": 1,
}


def params(**changes: Any) -> FilterParams:
    return FilterParams(**(DEFAULTS | changes))


def thought(**changes: Any) -> ThoughtParams:
    return ThoughtParams(**(THOUGHT | changes))


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
    return FilterInputs(generations=generations, prompts=prompts, mix=[])


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
    assert card.startswith("---\ntask_categories:\n")  # and no licence: the text says whose
    assert "| wrong_answer | 1 |" in card
    assert "no reference" not in card
    assert metrics["mixed"] == {}
    assert (metrics["num_prompts"], metrics["num_rows"]) == (2, 3)


@pytest.mark.parametrize(
    ("band", "reason"),
    [({"min_pass_rate": 0.5}, "pass_rate_low"), ({"max_pass_rate": 0.3}, "pass_rate_high")],
)
def test_problems_outside_the_band_are_left_out(
    inputs: FilterInputs, out: Path, band: dict[str, float], reason: str
) -> None:
    metrics = run(params(**band), inputs, out, out)["filter"]
    left_out = "p2" if reason == "pass_rate_low" else "p1"
    (left,) = read_jsonl(out / "prompts.jsonl")
    assert left == (problem("p1", "3") if left_out == "p2" else problem("p2", "5"))
    assert metrics["num_prompts_in_band"] == 1
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


def test_messages_name_the_folder_of_traces(inputs: FilterInputs, out: Path) -> None:
    """Which is a parameter: a track's is another than artifacts/generate."""
    empty = out / "samples"
    empty.mkdir()
    nothing = FilterInputs(generations=empty, prompts=inputs.prompts, mix=[])
    with pytest.raises(ValueError, match=rf"filter\.generations: {empty} has no \*\.jsonl file"):
        run(params(), nothing, out, out)
    write_jsonl(empty / "a.jsonl", [trace("p1", 0, "x")])
    others = [problem(f"p{number}", "3") for number in range(2, 9)]
    write_jsonl(out / "prompts.jsonl", [problem("p1", "3"), *others])
    few = FilterInputs(generations=empty, prompts=out / "prompts.jsonl", mix=[])
    message = rf"{empty} has no trace of 7 of the 8 problems of filter\.prompts, such as p2: "
    with pytest.raises(ValueError, match=message):
        run(params(), few, out, out)
    write_jsonl(empty / "b.jsonl", [trace("p9", 0, "x")])
    with pytest.raises(ValueError, match=rf"{empty} has a trace for 'p9', which is not among"):
        run(params(), few, out, out)


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(["right a", "right b", "right c", "wrong"]), min_size=1, max_size=9),
    st.integers(1, 3),
    st.sampled_from(["random", "shortest"]),
)
def test_selection_obeys_its_bounds(kinds: list[str], cap: int, order: str) -> None:
    samples = [trace("p", n, response(kind, 1)) for n, kind in enumerate(kinds)]
    reasons = ["wrong_answer" if kind == "wrong" else None for kind in kinds]
    final = select(samples, reasons, params(max_per_prompt=cap, order=order), None)
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
        ({"mix": {"/data/x.jsonl": 1.0}}, "filter.mix must lie below the repository's root"),
        ({"mix": {"artifacts/x.jsonl": 0.0}}, r"filter.mix.artifacts/x.jsonl must be > 0, not 0.0"),
    ],
)
def test_bounds(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        params(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"min_language_consistency": 1.1},
            r"min_language_consistency must be in \[0, 1\], or null",
        ),
        ({"max_repetition": -0.1}, r"max_repetition must be in \[0, 1\], or null, not -0.1"),
        ({"max_paragraph_chars": 0}, "max_paragraph_chars must be >= 1, or null"),
        ({"repetition_n_grams": 0}, "repetition_n_grams must be >= 1, not 0: these are words"),
    ],
)
def test_bounds_of_thoughts(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"filter.thought.{message}"):
        thought(**changes)


MIXED = "We add three and 四 and get seven"  # one word of eight
LOOP = "so so so so so"
CODE = "We compute:\n```python\nprint(3 + 4)\n```\nIt is seven."
LONG = "It is seven.\n\n" + " ".join(f"and add {number}" for number in range(40))
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "mixed_language": (MIXED, {"min_language_consistency": 0.9}),
    "repetition": (LOOP, {"max_repetition": 0.5}),
    "long_paragraph": (LONG, {"max_paragraph_chars": 300}),
    "code_block": (CODE, {"reject_code_blocks": True}),
}


@pytest.mark.parametrize("reason", RULES)
@pytest.mark.parametrize("answer", ["7", None])
def test_unreadable_thoughts_are_left_out(reason: str, answer: str | None) -> None:
    """With a reference answer or without; the answer itself may be long and hold code."""
    text, rule = RULES[reason]
    strict = params(thought=thought(**rule))
    assert judge(trace("p", 0, response(text, 7)), answer, params()) is None
    assert judge(trace("p", 0, response(text, 7)), answer, strict) == reason
    for other, (readable, _) in RULES.items():
        if other != reason:
            assert judge(trace("p", 0, response(readable, 7)), answer, strict) is None
    reply = f"<think>It is seven.</think>{text}"
    assert judge(trace("p", 0, reply), None, strict) is None


def test_thought_of_sums_is_in_no_language() -> None:
    strict = params(thought=thought(min_language_consistency=1.0))
    assert judge(trace("p", 0, response("3 + 4 = 7", 7)), "7", strict) is None


def test_unreadable_traces_count_as_right_answers(inputs: FilterInputs, out: Path) -> None:
    """p1's four are right; that the longest is in Chinese makes the problem no harder."""
    rows = read_jsonl(inputs.generations / "shard-0.jsonl")
    rows[3]["response"] = response("三加四是七", 3)
    write_jsonl(inputs.generations / "shard-0.jsonl", rows)
    strict = params(thought=thought(min_language_consistency=0.5), min_pass_rate=1.0)
    metrics = run(strict, inputs, out, out)["filter"]
    assert metrics["pass_rate"] == pytest.approx((1.0 + 0.25) / 2)
    assert metrics["format_rate"] == pytest.approx((1.0 + 0.5) / 2)
    assert metrics["rejects"]["mixed_language"] == 1
    assert metrics["rejects"]["pass_rate_low"] == 1
    assert [row["id"] for row in read_jsonl(out / "prompts.jsonl")] == ["p1"]
    (reject,) = [r for r in read_jsonl(out / "rejects.jsonl") if r["reason"] == "mixed_language"]
    assert (reject["id"], reject["sample"]) == ("p1", 3)


HELLO = problem("p3", "") | {"task": "chat", "answer": None}


def add_chat(inputs: FilterInputs) -> None:
    """Adds a problem without a reference, two of whose four traces are the same."""
    texts = ["Hello!", "Hello! ", "<think>Hm.", "<think>They greet.</think>Hi."]
    write_jsonl(
        inputs.generations / "shard-2.jsonl", [trace("p3", n, t) for n, t in enumerate(texts)]
    )
    write_jsonl(inputs.prompts, [HELLO, *read_jsonl(inputs.prompts)])


def test_problems_without_an_answer_are_judged_by_form(inputs: FilterInputs, out: Path) -> None:
    add_chat(inputs)
    allowed = params(unverified_tasks=["chat"], max_pass_rate=0.5)
    metrics = run(allowed, inputs, out, out)["filter"]
    kept = read_jsonl(out / "train.jsonl")
    assert [(row["id"], row["sample"]) for row in kept] == [("p2", 2), ("p3", 0), ("p3", 3)]
    assert [row["id"] for row in read_jsonl(out / "prompts.jsonl")] == ["p3", "p2"]
    reasons = {(r["id"], r["sample"]): r["reason"] for r in read_jsonl(out / "rejects.jsonl")}
    assert reasons["p3", 1] == "duplicate"
    assert reasons["p3", 2] == "bad_format"
    assert metrics["pass_rate"] == pytest.approx((1.0 + 0.25) / 2), "of those with an answer"
    assert (metrics["num_prompts"], metrics["num_prompts_verified"]) == (3, 2)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "1 of the problems have no reference" in card


def test_rates_need_a_problem_with_an_answer(inputs: FilterInputs, out: Path) -> None:
    add_chat(inputs)
    write_jsonl(inputs.prompts, [HELLO])
    for name in ("shard-0.jsonl", "shard-1.jsonl"):
        (inputs.generations / name).unlink()
    metrics = run(params(unverified_tasks=["chat"]), inputs, out, out)["filter"]
    assert metrics["num_kept"] == 2
    assert [metrics[name] for name in ("pass_rate", "pass_rate_stderr", "pass_at_k")] == [None] * 3


def test_missing_answers_and_unknown_tasks_are_said(inputs: FilterInputs, out: Path) -> None:
    with pytest.raises(ValueError, match="filter.unverified_tasks: no problem is of task 'chat'"):
        run(params(unverified_tasks=["chat"]), inputs, out, out)
    add_chat(inputs)
    with pytest.raises(ValueError, match="'p3' has no answer .* name 'chat' in filter.unverified"):
        run(params(), inputs, out, out)


def write_other(path: Path, num_rows: int) -> None:
    rows = [
        {
            "id": f"o{number}",
            "prompt": [{"role": "user", "content": "Hello"}],
            "completion": [{"role": "assistant", "content": f"Hello {number}"}],
        }
        for number in range(num_rows)
    ]
    write_jsonl(path, rows)


@settings(max_examples=25, deadline=None)
@given(num_rows=st.integers(1, 9), weight=st.integers(1, 12).map(lambda n: n / 4))
def test_weights_are_copies(
    tmp_path_factory: pytest.TempPathFactory, num_rows: int, weight: float
) -> None:
    path = tmp_path_factory.mktemp("mix") / "train.jsonl"
    write_other(path, num_rows)
    (rows,) = read_mix({str(path): weight}, 0).values()
    assert len(rows) == int(weight) * num_rows + round(weight % 1 * num_rows)
    counts = Counter(row["id"] for row in rows)
    assert set(counts.values()) <= {int(weight), int(weight) + 1}
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows), "in the file's order"


def test_mixture_follows_the_traces(
    inputs: FilterInputs, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_other(tmp_path / "artifacts/chat.jsonl", 4)
    write_other(tmp_path / "artifacts/code.jsonl", 1)
    mix = {"artifacts/chat.jsonl": 0.5, "artifacts/code.jsonl": 2.0}
    metrics = run(params(mix=mix), inputs, out, out)["filter"]
    ids = [row["id"] for row in read_jsonl(out / "train.jsonl")]
    assert ids[:3] == ["p1", "p1", "p2"]
    assert len(ids) == 7
    assert ids[-2:] == ["o0", "o0"]
    assert metrics["mixed"] == {"artifacts/chat.jsonl": 2, "artifacts/code.jsonl": 2}
    assert (metrics["num_kept"], metrics["num_rows"]) == (3, 7)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "2 rows of `artifacts/chat.jsonl` follow." in card
    again = read_mix(mix, 1)["artifacts/chat.jsonl"]
    assert {
        tuple(row["id"] for row in read_mix(mix, seed)["artifacts/chat.jsonl"]) for seed in range(9)
    } > {tuple(row["id"] for row in again)}, "which half depends on the seed"


def test_rows_to_mix_must_be_traces(tmp_path: Path) -> None:
    path = tmp_path / "rl.jsonl"
    write_jsonl(path, [problem("p1", "3")])
    with pytest.raises(ValueError, match=r"rl.jsonl:1 has no prompt and completion: filter.mix"):
        read_mix({str(path): 1.0}, 0)


def test_mixture_is_an_input() -> None:
    files = inputs_of(params(mix={"artifacts/a.jsonl": 1.0}), {}).mix
    assert files == [Path("artifacts/a.jsonl")]


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([None, "wrong_answer", "code_block", "truncated"]), min_size=1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_band_is_of_right_answers(reasons: list[str | None], one: float, other: float) -> None:
    low, high = sorted((one, other))
    rate = sum(reason in (None, "code_block") for reason in reasons) / len(reasons)
    found = find_out_of_band(reasons, params(min_pass_rate=low, max_pass_rate=high))
    assert found == ("pass_rate_low" if rate < low else "pass_rate_high" if rate > high else None)
