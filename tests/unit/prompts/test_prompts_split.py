"""The splits: counts, disjointness, what is removed and why."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from stages.prompts.params import (
    BoilerplateParams,
    DecontaminationParams,
    JsonlSource,
    PromptsParams,
)
from stages.prompts.sources import Problem
from stages.prompts.split import Splits, make_pool, split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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
) -> Splits:
    params = PromptsParams(
        image="cpu",
        seed=seed,
        system_prompt="Think.",
        examples="unused.jsonl",
        decontamination=DecontaminationParams(
            ngram=4, boilerplate=BoilerplateParams(ngram=3, min_frequency=0.5, num_rows=1000)
        ),
        sources={
            name: source(*asked, columns=(columns or {}).get(name, ()))
            for name, asked in counts.items()
        },
        traces=None,
    )
    return split({name: make_pool(rows, seed) for name, rows in problems.items()}, params, examples)


def sums(start: int, stop: int) -> list[Problem]:
    return [Problem(f"{n} + 1", str(n + 1), str(n + 1)) for n in range(start, stop)]


def questions(rows: list[dict[str, Any]]) -> set[str]:
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
        match=r"plus asks for 3 evaluation, 3 rl and 5 train problems, "
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
    assert after.evaluate["plus"] == before.evaluate["plus"]


def test_seed_changes_the_splits() -> None:
    splits = [run_split({"plus": sums(0, 50)}, {"plus": (5, 5, 5)}, seed) for seed in (0, 0, 1)]
    assert splits[0] == splits[1]
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
        pool = make_pool(rows, 0)
        assert [problem.columns for _, problem in pool.problems] == ['{"tests": "a"}']
        assert pool.counts["duplicates"] == 3
