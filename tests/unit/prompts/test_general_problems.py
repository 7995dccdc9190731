"""The shipped general prompts, safety prompts and preference pairs: complete, varied, balanced."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from stages._contract.artifacts import read_jsonl, sha256_file
from stages.preference.pairs import load_pairs
from stages.prompts.text import normalise, sort_words

FOLDER = Path(__file__).parents[3] / "stages" / "prompts" / "problems"
PAIRS = read_jsonl(FOLDER / "preference.jsonl")
GENERAL = read_jsonl(FOLDER / "general.jsonl")
SAFETY = read_jsonl(FOLDER / "safety.jsonl")


def group_of(row: dict[str, str]) -> str:
    """Returns what the id begins with: helpful, or the two sorts of safe, harmful and benign."""
    return row["id"].rpartition("-")[0]


def test_pairs_have_their_fields_and_ids() -> None:
    for row in PAIRS:
        assert set(row) == {"id", "prompt", "chosen", "rejected", "kind"}
        assert all(isinstance(text, str) and text == text.strip() for text in row.values())
        assert {"helpful": "helpful", "harmful": "safe", "benign": "safe"}[group_of(row)] == (
            row["kind"]
        )
    assert len({row["id"] for row in PAIRS}) == len(PAIRS)
    assert len(load_pairs(FOLDER / "preference.jsonl", ["helpful", "safe"])) == len(PAIRS)
    assert Counter(map(group_of, PAIRS)) == {"helpful": 118, "harmful": 40, "benign": 38}


@pytest.mark.parametrize(
    ("name", "rows", "num"), [("general", GENERAL, 122), ("safety", SAFETY, 60)]
)
def test_prompts_have_their_fields_and_ids(name: str, rows: list[dict[str, str]], num: int) -> None:
    del name
    assert len(rows) == num
    for row in rows:
        assert set(row) == {"id", "category", "question"}
        assert re.fullmatch(rf"{row['category']}-\d{{3}}", row["id"])
    assert len({row["id"] for row in rows}) == num


def test_categories() -> None:
    assert Counter(row["category"] for row in GENERAL) == {
        "writing": 24,
        "factual": 24,
        "self": 16,
        "translation": 16,
        "summary": 16,
        "explanation": 14,
        "advice": 12,
    }
    assert Counter(row["category"] for row in SAFETY) == {"harmful": 30, "benign": 30}


def test_no_prompt_occurs_twice_in_whichever_file() -> None:
    prompts = [row["prompt"] for row in PAIRS] + [row["question"] for row in GENERAL + SAFETY]
    assert len({sort_words(normalise(prompt)) for prompt in prompts}) == len(prompts)


def test_no_response_occurs_twice_but_for_the_shortest() -> None:
    """No template by the dozen: what a model could learn by heart."""
    counts = Counter(row[key] for row in PAIRS for key in ("chosen", "rejected"))
    assert [text for text, num in counts.items() if num > 1] == []


@pytest.mark.parametrize("group", ["helpful", "harmful", "benign"])
def test_length_does_not_tell_which_is_chosen(group: str) -> None:
    rows = [row for row in PAIRS if group_of(row) == group]
    longer = [
        0.5 + 0.5 * ((a > b) - (a < b))
        for a, b in ((len(row["chosen"]), len(row["rejected"])) for row in rows)
    ]
    assert 0.44 < sum(longer) / len(longer) < 0.56


def is_refusal(text: str) -> bool:
    """Returns whether the text says that it does not do what it was asked."""
    words = "can't|cannot|won't|will not|must refuse|refuse|don't discuss|prefer not|'d rather not"
    return bool(re.search(rf"\bI ?({words})\b|I'm (unable|not able|afraid|sorry)|^No\b", text))


def test_refusing_always_or_never_is_not_right() -> None:
    """A rule that prefers the refusal is right on the harmful prompts, and wrong on the others."""
    harmful = [row for row in PAIRS if group_of(row) == "harmful"]
    benign = [row for row in PAIRS if group_of(row) == "benign"]
    assert not any(is_refusal(row["rejected"]) for row in harmful)
    assert not any(is_refusal(row["chosen"]) for row in benign)
    assert sum(is_refusal(row["chosen"]) for row in harmful) >= 30
    assert sum(is_refusal(row["rejected"]) for row in benign) >= 30


@pytest.mark.parametrize("name", ["general", "safety"])
def test_page_shows_the_files_sha256(name: str) -> None:
    path = FOLDER / f"{name}.jsonl"
    page = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert f"`{sha256_file(path)}`" in page
