"""Pairs of responses: what is refused, how they are split, and what is measured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from stages.preference.pairs import load_pairs, measure, split_pairs, to_conversation

if TYPE_CHECKING:
    from pathlib import Path

ROW = {"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "kind": "helpful"}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pairs(num: int, per_prompt: int = 1) -> list[dict[str, Any]]:
    return [{"prompt": str(i // per_prompt), "line": i} for i in range(num * per_prompt)]


def test_pairs_have_their_lines_and_only_what_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", {**ROW, "id": 7}, {**ROW, "kind": "safe"})
    assert load_pairs(path, []) == [{**ROW, "line": 1}, {**ROW, "kind": "safe", "line": 2}]
    assert load_pairs(path, ["safe"]) == [{**ROW, "kind": "safe", "line": 2}]


def test_pairs_may_have_no_kind(tmp_path: Path) -> None:
    row = {key: value for key, value in ROW.items() if key != "kind"}
    assert load_pairs(write(tmp_path / "pairs.jsonl", row), [])[0]["kind"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": None}, "pairs.jsonl:2 must have a text 'chosen', not None"),
        ({"prompt": "  "}, "pairs.jsonl:2 must have a text 'prompt', not '  '"),
        ({"rejected": [{"role": "assistant"}]}, "pairs.jsonl:2 must have a text 'rejected', not"),
        ({"rejected": "4"}, "pairs.jsonl:2: chosen and rejected are the same: drop the pair"),
        ({"kind": 1}, "pairs.jsonl:2: kind must be a text or missing, not 1"),
    ],
)
def test_pair_that_is_none_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "pairs.jsonl", ROW, {**ROW, **change})
    with pytest.raises(ValueError, match=message):
        load_pairs(path, [])


def test_kind_without_pairs_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", ROW)
    with pytest.raises(ValueError, match="kinds has 'safe', of which .* has no pair: it has helpf"):
        load_pairs(path, ["helpful", "safe"])


def test_pairs_of_a_prompt_stay_together() -> None:
    trained, held_out = split_pairs(pairs(50, per_prompt=2), 0.2, seed=0)
    assert (len(trained), len(held_out)) == (80, 20)
    assert {row["prompt"] for row in trained} & {row["prompt"] for row in held_out} == set()
    assert [row["line"] for row in held_out] == sorted(row["line"] for row in held_out)


def test_split_depends_on_the_seed_and_not_on_the_order() -> None:
    rows = pairs(50)
    _, held_out = split_pairs(rows, 0.2, seed=0)
    _, other = split_pairs(rows, 0.2, seed=1)
    _, reversed_ = split_pairs(rows[::-1], 0.2, seed=0)
    assert held_out != other
    assert held_out == reversed_[::-1]


@pytest.mark.parametrize(("num", "share"), [(2, 0.2), (2, 0.8)])
def test_split_with_an_empty_side_is_refused(num: int, share: float) -> None:
    with pytest.raises(ValueError, match=f"held_out_share is {share}, which of 2 prompts holds"):
        split_pairs(pairs(num), share, seed=0)


def test_conversation_is_what_trl_takes() -> None:
    pair = {**ROW, "line": 3}
    assert to_conversation(pair, None) == {
        "line": 3,
        "kind": "helpful",
        "prompt": [{"role": "user", "content": "2 + 2?"}],
        "chosen": [{"role": "assistant", "content": "4"}],
        "rejected": [{"role": "assistant", "content": "5"}],
    }
    assert to_conversation(pair, "Add.")["prompt"][0] == {"role": "system", "content": "Add."}


def test_accuracy_its_error_and_what_length_alone_gets() -> None:
    rows = [
        {"kind": "helpful", "margin": 2.0, "num_more_tokens": 5},
        {"kind": "helpful", "margin": 1.0, "num_more_tokens": -5},
        {"kind": "safe", "margin": -1.0, "num_more_tokens": -2},
        {"kind": "safe", "margin": 0.0, "num_more_tokens": 0},
    ]
    measured = measure(rows)
    kinds = measured.pop("kinds")
    # 1, 1, 0 and a half: a variance of (2 * 0.375^2 + 0.625^2 + 0.125^2) / 3, by 4.
    assert measured == {
        "num_pairs": 4,
        "accuracy": 0.625,
        "accuracy_stderr": pytest.approx((0.6875 / 3 / 4) ** 0.5),
        "longer_is_chosen": 0.375,
        "mean_margin": 0.5,
    }
    assert kinds["helpful"]["accuracy"] == 1.0
    assert kinds["safe"]["accuracy"] == 0.25
    assert kinds["safe"]["longer_is_chosen"] == 0.25


def test_one_pair_has_no_error_and_no_kind_is_no_key() -> None:
    measured = measure([{"kind": None, "margin": 1.0, "num_more_tokens": 1}])
    assert measured["accuracy_stderr"] is None
    assert "kinds" not in measured
