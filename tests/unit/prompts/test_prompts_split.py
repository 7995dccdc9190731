"""The splits: counts, disjointness, what is removed and why."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stages.prompts.mixture import Mixture
from stages.prompts.near_duplicates import NearDuplicates
from stages.prompts.params import (
    BoilerplateParams,
    DecontaminationParams,
    JsonlSource,
    MinHash,
    PromptsParams,
)
from stages.prompts.pool import Pool, Store, make_pool
from stages.prompts.sources import Problem
from stages.prompts.split import Splits, split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


MAX_MATCHES = 3


def source(
    num_train: int, num_rl: int, num_evaluate: int, columns: Sequence[str] = ()
) -> JsonlSource:
    return JsonlSource(
        kind="jsonl",
        path="unused.jsonl",
        sha256="0" * 64,
        question_field="question",
        answer_field="answer",
        answer_after=None,
        solution_field=None,
        columns=list(columns),
        max_invalid=0,
        num_train=num_train,
        num_rl=num_rl,
        num_evaluate=num_evaluate,
    )


def run_split(
    problems: dict[str, list[Problem]],
    counts: dict[str, tuple[int, int, int]],
    seed: int = 0,
    examples: Sequence[str] = (),
    columns: Mapping[str, Sequence[str]] | None = None,
    against: Sequence[tuple[str, Problem]] = (),
    near_duplicates: MinHash | None = None,
    mixture: Mixture | None = None,
) -> Splits:
    params = PromptsParams(
        image="cpu",
        seed=seed,
        system_prompt="Think.",
        examples="unused.jsonl",
        decontamination=DecontaminationParams(
            ngram=4,
            boilerplate=BoilerplateParams(ngram=3, min_frequency=0.5, num_rows=1000),
            against={},
            max_matches=MAX_MATCHES,
        ),
        near_duplicates=near_duplicates,
        sources={
            name: source(*asked, columns=(columns or {}).get(name, ()))
            for name, asked in counts.items()
        },
        mixture=mixture,
        traces=None,
    )
    return split(pools(problems, seed, examples), params, against)


def pools(
    problems: Mapping[str, Sequence[Problem]], seed: int, examples: Sequence[str] = ()
) -> dict[str, Pool]:
    folder = Path(tempfile.gettempdir())
    return {name: make_pool(rows, seed, Store(folder), examples) for name, rows in problems.items()}


def sums(start: int, stop: int) -> list[Problem]:
    return [Problem(f"{n} + 1", str(n + 1), str(n + 1)) for n in range(start, stop)]


def questions(rows: Sequence[dict[str, Any]]) -> set[str]:
    return {row["prompt"][-1]["content"] for row in rows}


def counts_of(splits: Splits, task: str) -> dict[str, Any]:
    counts: dict[str, Any] = splits.report["tasks"][task]["source"]
    return counts


def test_rows_have_the_contract_s_fields() -> None:
    row = run_split({"plus": sums(5, 8)}, {"plus": (1, 1, 1)}).evaluate["plus"][0]
    n = int(row["answer"]) - 1
    assert row == {
        "id": "plus-" + hashlib.sha256(f"{n} + 1".encode()).hexdigest()[:12],
        "task": "plus",
        "prompt": [
            {"role": "system", "content": "Think."},
            {"role": "user", "content": f"{n} + 1"},
        ],
        "answer": str(n + 1),
    }


def test_examples_are_kept_out_of_every_split() -> None:
    splits = run_split({"plus": sums(0, 10)}, {"plus": (3, 3, 2)}, examples=[" 4 +  1", "5 + 1"])
    rows = [*splits.train, *splits.rl, *splits.evaluate["plus"]]
    assert len(rows) == 8
    assert questions(rows).isdisjoint({"4 + 1", "5 + 1"})
    assert counts_of(splits, "plus")["reserved_as_example"] == 2


def test_splits_use_every_problem_once() -> None:
    splits = run_split({"plus": sums(0, 10)}, {"plus": (4, 3, 3)})
    parts = [questions(splits.train), questions(splits.rl), questions(splits.evaluate["plus"])]
    assert [len(part) for part in parts] == [4, 3, 3]
    assert set().union(*parts) == {problem.question for problem in sums(0, 10)}


def test_too_few_problems_are_counted() -> None:
    rows = [*sums(0, 10), *sums(0, 2)]
    with pytest.raises(
        ValueError,
        match=r"plus is asked for 3 evaluation, 3 rl and 5 train problems, "
        r"but of its 12 rows only 10 can be used \(removed: \{'duplicates': 2",
    ):
        run_split({"plus": rows}, {"plus": (5, 3, 3)})
    with pytest.raises(ValueError, match="only 10 can be used"):
        run_split({"plus": rows}, {"plus": (1, 1, 11)})


def test_error_shows_an_example_of_what_was_removed() -> None:
    rows = [Problem(f"{n} a long common text", "1", "1") for n in range(3)]
    with pytest.raises(ValueError, match="shares 'a long common text' with t-"):
        run_split({"t": rows}, {"t": (1, 1, 1)})


def test_repeats_and_conflicts_are_dropped() -> None:
    rows = [
        *sums(0, 6),
        Problem("0+1", "1", "1"),
        Problem("What?", "1", "1"),
        Problem("what", "2", "2"),
    ]
    splits = run_split({"plus": rows}, {"plus": (2, 2, 2)})
    assert counts_of(splits, "plus") == {
        "reserved_as_example": 0,
        "rows": 9,
        "duplicates": 1,
        "conflicting_answers": 2,
        "distinct": 6,
        "in_other_source": 0,
        "contaminated_ngram": 0,
        "contaminated_whole": 0,
    }


def test_leaks_are_replaced_and_reported() -> None:
    leaking = [Problem(f"the story of farmer joe {n}", "1", "1") for n in range(20)]
    task = [Problem("the story of farmer joe", "7", "7")]
    splits = run_split(
        {"plus": [*sums(0, 20), *leaking], "story": task}, {"plus": (10, 10, 0), "story": (0, 0, 1)}
    )
    assert questions(splits.train) | questions(splits.rl) == questions_of(sums(0, 20))
    report = splits.report["tasks"]["plus"]
    assert 0 < report["source"]["contaminated_ngram"] <= 20
    example = report["removed_examples"][0]
    assert example["evaluation_id"] == splits.evaluate["story"][0]["id"]
    assert example["shared"] == "story of farmer joe"
    assert example["question"] in questions_of(leaking)
    assert example["id"].startswith("plus-")


def questions_of(problems: list[Problem]) -> set[str]:
    return {problem.question for problem in problems}


def test_problem_of_two_sources_is_in_one_split() -> None:
    """The evaluation task has it, whatever the names' order; among the others the first name."""
    for evaluated, trained in (("a", "b"), ("b", "a")):
        splits = run_split(
            {evaluated: sums(0, 5), trained: sums(0, 9)}, {evaluated: (0, 0, 5), trained: (2, 2, 0)}
        )
        assert questions(splits.evaluate[evaluated]) == questions_of(sums(0, 5))
        assert questions(splits.train) | questions(splits.rl) == questions_of(sums(5, 9))
    splits = run_split({"a": sums(0, 4), "b": sums(0, 7)}, {"a": (2, 1, 1), "b": (2, 1, 0)})
    assert len(questions(splits.train) | questions(splits.rl)) == 6
    assert counts_of(splits, "b")["in_other_source"] > 0


def test_evaluation_stays_when_the_rest_changes() -> None:
    before = run_split({"plus": sums(0, 50)}, {"plus": (2, 2, 9)})
    more = {"another": sums(100, 110), "plus": sums(0, 50)}
    after = run_split(more, {"another": (1, 1, 5), "plus": (20, 4, 9)})
    assert list(after.evaluate["plus"]) == list(before.evaluate["plus"])


def test_seed_changes_the_splits() -> None:
    splits = [run_split({"plus": sums(0, 50)}, {"plus": (5, 5, 5)}, seed) for seed in (0, 0, 1)]
    assert list(splits[0].train) == list(splits[1].train)
    assert questions(splits[0].evaluate["plus"]) != questions(splits[2].evaluate["plus"])


def test_tasks_are_mixed() -> None:
    splits = run_split(
        {"a": sums(0, 100), "b": sums(100, 200)}, {"a": (50, 10, 10), "b": (50, 10, 10)}
    )
    first_half = [row["task"] for row in splits.train[:50]]
    assert 10 < first_half.count("a") < 40


def test_task_without_evaluation_has_no_file() -> None:
    splits = run_split({"a": sums(0, 9), "b": sums(10, 20)}, {"a": (2, 2, 2), "b": (2, 2, 0)})
    assert list(splits.evaluate) == ["a"]


def with_tests(problems: list[Problem]) -> list[Problem]:
    return [
        Problem(row.question, "", "", json.dumps({"tests": f"of {row.question}", "limit": None}))
        for row in problems
    ]


def test_columns_are_in_every_row_of_a_mixed_split() -> None:
    """`Dataset.from_list` would drop a column that the first row has not."""
    splits = run_split(
        {"code": with_tests(sums(0, 5)), "plus": sums(10, 20)},
        {"code": (0, 5, 0), "plus": (3, 5, 2)},
        columns={"code": ["tests", "limit"]},
    )
    assert [row["task"] for row in splits.rl].count("code") == 5
    for row in splits.rl:
        question = row["prompt"][-1]["content"]
        assert row["limit"] is None
        assert row["tests"] == (f"of {question}" if row["task"] == "code" else None)
    assert all(row["tests"] is None for row in splits.train)
    assert set(splits.evaluate["plus"][0]) == {"id", "task", "prompt", "answer"}


def test_evaluation_rows_have_their_own_columns() -> None:
    splits = run_split(
        {"plus": with_tests(sums(0, 6))}, {"plus": (1, 1, 1)}, columns={"plus": ["tests"]}
    )
    row = splits.evaluate["plus"][0]
    assert row["tests"] == f"of {row['prompt'][-1]['content']}"
    assert "limit" not in row


def test_columns_of_the_first_problem_win_whatever_the_rows_order() -> None:
    same = [
        Problem("0+1", "1", "1", json.dumps({"tests": tests})) for tests in ("b", "a", None, "c")
    ]
    for rows in (same, same[::-1]):
        pool = pools({"t": rows}, 0)["t"]
        assert [pool.read(entry).columns for entry in pool.entries] == ['{"tests": "a"}']
        assert pool.counts["duplicates"] == 3


def test_evaluation_sets_that_are_no_source_are_held_out() -> None:
    held_out = [
        ("aime-1", Problem("How many farmers named joe?", "", "")),
        ("aime-7", Problem("Else?", "", "because the old farmer sold eggs")),
    ]
    leaking = [
        Problem("Say: how many farmers named joe are there?", "1", "1"),
        Problem("Joe named farmers: how many?", "2", "2"),
        Problem("Why?", "3", "It is because the old farmer left."),
    ]
    rows = {"t": [*sums(0, 9), *leaking], "e": sums(20, 21)}
    asked = {"t": (5, 4, 0), "e": (0, 0, 1)}
    splits = run_split(rows, asked, against=held_out)
    assert questions(splits.train) | questions(splits.rl) == questions_of(sums(0, 9))
    asked["t"] = (8, 4, 0)
    splits = run_split(rows, asked)
    assert questions(splits.train) | questions(splits.rl) == questions_of(rows["t"])


def test_every_match_is_listed_up_to_a_number() -> None:
    leaking = [Problem(f"the story of farmer joe {n}", "1", "1") for n in range(20)]
    against = [("aime-3", Problem("the story of farmer joe", "", ""))]
    splits = run_split(
        {"plus": [*sums(0, 9), *leaking], "other": sums(20, 21)},
        {"plus": (5, 4, 0), "other": (0, 0, 1)},
        against=against,
    )
    report = splits.report["tasks"]["plus"]
    num = report["source"]["contaminated_ngram"]
    assert num > MAX_MATCHES
    assert report["removed_by_evaluation_set"] == {"aime": num}
    rows = splits.matches["plus"].rows
    assert len(rows) == MAX_MATCHES
    for row in rows:
        assert row.pop("id").startswith("plus-")
        assert row == {
            "task": "plus",
            "reason": "ngram",
            "evaluation_id": "aime-3",
            "shared": "story of farmer joe",
        }


def test_a_mixture_says_how_many() -> None:
    mixture = Mixture(kind="weights", num_train=8, num_rl=4, weights={"a": 3.0, "b": 1.0})
    splits = run_split(
        {"a": sums(0, 20), "b": sums(30, 50)}, {"a": (0, 0, 2), "b": (0, 0, 0)}, mixture=mixture
    )
    for rows, num in ((splits.train, 8), (splits.rl, 4)):
        tasks = [row["task"] for row in rows]
        assert (tasks.count("a"), tasks.count("b")) == (num * 3 // 4, num // 4)
    assert splits.report["tasks"]["a"]["splits"] == {"evaluate": 2, "rl": 3, "train": 6}


def test_a_source_too_small_for_its_share_is_named() -> None:
    mixture = Mixture(kind="weights", num_train=40, num_rl=2, weights={"a": 1.0, "b": 1.0})
    with pytest.raises(
        ValueError,
        match=r"b is asked for 0 evaluation, 1 rl and 20 .*by prompts\.mixture",
    ):
        run_split(
            {"a": sums(0, 30), "b": sums(30, 50)}, {"a": (0, 0, 1), "b": (0, 0, 0)}, mixture=mixture
        )


MIN_HASH = MinHash(kind="minhash", threshold=0.7, ngram=2, num_perm=128, num_bands=32)
STORY = "A farmer sells {} eggs on the market each morning before he goes home to feed the hens"


def test_near_duplicates_are_passed_over() -> None:
    stories = [Problem(STORY.format(n), str(n), str(n)) for n in range(10)]
    kept = {}
    for near in (None, MIN_HASH):
        splits = run_split(
            {"t": [*sums(100, 108), *stories], "other": sums(20, 21)},
            {"t": (4, 4, 0), "other": (0, 0, 1)},
            near_duplicates=near,
        )
        found = questions(splits.train) | questions(splits.rl)
        kept[near] = len(found & questions_of(stories))
        counts = counts_of(splits, "t")
        assert ("near_duplicates" in counts) == (near is not None)
    assert kept[MIN_HASH] == 1 < kept[None]


def test_near_duplicates_of_evaluation_problems_go() -> None:
    against = [("aime-1", Problem(f"{STORY.format(500)}, but not today", "", ""))]
    rows = [*sums(100, 109), Problem(STORY.format(7), "7", "7")]
    boilerplate_free = run_split({"t": rows}, {"t": (5, 4, 1)}, against=(), near_duplicates=None)
    assert len(boilerplate_free.train) == 5
    with pytest.raises(ValueError, match="only 9 can be used"):
        run_split({"t": rows}, {"t": (5, 4, 1)}, against=against, near_duplicates=MIN_HASH)


def test_the_same_seed_refuses_the_same_near_duplicates() -> None:
    rows = [Problem(STORY.format(f"{n} or {m}"), "1", "1") for n in range(9) for m in range(9)]
    for threshold in (0.6, 0.9):
        found = []
        for seed in (3, 3):
            near = NearDuplicates(replace(MIN_HASH, threshold=threshold), seed)
            found.append([near.add(row.question) for row in rows])
        assert found[0] == found[1]
        assert found[0][0]
