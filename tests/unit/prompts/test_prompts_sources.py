"""What is read of a source: its problems, their answers and columns, and mistakes by name."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import datasets
import pytest
import reasoning_gym

from stages._contract.artifacts import sha256_file
from stages.prompts.params import HubSource
from stages.prompts.sources import Problem, read_source
from tests.unit.prompts.sources import gym, jsonl

if TYPE_CHECKING:
    from pathlib import Path

    from stages.prompts.params import Source


def read_all(task: str, source: Source, seed: int) -> tuple[list[Problem], int]:
    """Returns a source's problems and the number of its invalid rows."""
    counts: Counter[str] = Counter()
    problems = list(read_source(task, source, seed, counts))
    return problems, counts["invalid"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_number_without_a_value_is_no_answer(tmp_path: Path, value: str) -> None:
    """JSON as Python reads it holds such numbers; "nan" would be a reference like any other."""
    path = tmp_path / "x.jsonl"
    source = jsonl(path, [{"question": "q", "answer": "A"}, {"question": "r", "answer": 4.5}])
    path.write_text(path.read_text(encoding="utf-8").replace('"A"', value), encoding="utf-8")
    source = replace(source, sha256=sha256_file(path), answer_after=None)
    with pytest.raises(ValueError, match=r"1 rows have no usable question or answer .* row 1\)"):
        read_all("t", source, 0)
    problems, num_invalid = read_all("t", replace(source, max_invalid=1), 0)
    assert ([problem.answer for problem in problems], num_invalid) == (["4.5"], 1)


def test_answer_is_what_follows_the_last_marker(tmp_path: Path) -> None:
    row = {"question": " How many? ", "answer": "Not #### 3 but 1,080.\n#### 1,080 "}
    problems, num_invalid = read_all("t", jsonl(tmp_path / "x.jsonl", [row]), 0)
    assert problems == [Problem("How many?", "1,080", row["answer"].strip())]
    assert num_invalid == 0


def test_numbers_are_answers_too(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": 0}, {"question": "b", "answer": 1.5}]
    problems, _ = read_all("t", jsonl(tmp_path / "x.jsonl", rows, answer_after=None), 0)
    assert [problem.answer for problem in problems] == ["0", "1.5"]


@pytest.mark.parametrize("bad", ["no marker", "#### ", None, True, ["#### 1"]])
def test_invalid_rows_count_against_the_limit(tmp_path: Path, bad: Any) -> None:
    rows = [{"question": "a", "answer": "#### 1"}, {"question": "b", "answer": bad}]
    problems, num_invalid = read_all("t", jsonl(tmp_path / "x.jsonl", rows, max_invalid=1), 0)
    assert (len(problems), num_invalid) == (1, 1)
    with pytest.raises(ValueError, match=r"sources\.t: 1 rows have no usable .* is row 2\), more "):
        read_all("t", jsonl(tmp_path / "x.jsonl", rows), 0)


def test_missing_field_is_named(tmp_path: Path) -> None:
    rows = [{"question": "a", "solution": "#### 1"}]
    with pytest.raises(ValueError, match=r"row 1 has no field 'answer'; it has \['question', 's"):
        read_all("t", jsonl(tmp_path / "x.jsonl", rows), 0)


def test_changed_file_is_refused(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", [{"question": "a", "answer": "#### 1"}])
    (tmp_path / "x.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"sources\.t\.sha256 is .* the file was changed"):
        read_all("t", source, 0)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sources\.t has no problems"):
        read_all("t", jsonl(tmp_path / "empty.jsonl", []), 0)
    source = jsonl(tmp_path / "gone.jsonl", [{}])
    (tmp_path / "gone.jsonl").unlink()
    with pytest.raises(ValueError, match=r"sources\.t\.path .*gone\.jsonl' is not a file"):
        read_all("t", source, 0)


def test_source_of_invalid_rows_only_is_empty(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", [{"question": "", "answer": ""}], max_invalid=1)
    with pytest.raises(ValueError, match=r"sources\.t has no problems"):
        read_all("t", source, 0)


def test_gym_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"no 'chain_sums': did you mean 'chain_sum'\?"):
        read_all("t", gym(dataset="chain_sums"), 0)
    with pytest.raises(ValueError, match=r"chain_sum has no setting 'terms'; it has \['allow_neg"):
        read_all("t", gym(config={"terms": 2}), 0)
    with pytest.raises(ValueError, match="is not valid for chain_sum: max_terms must be"):
        read_all("t", gym(config={"min_terms": 3, "max_terms": 2}), 0)


def test_gym_seeds_differ_by_task_and_seed() -> None:
    draws = [
        {problem.question for problem in read_all(task, gym(config={}), seed)[0]}
        for task, seed in (("a", 0), ("b", 0), ("a", 1))
    ]
    assert draws[0] == {problem.question for problem in read_all("a", gym(config={}), 0)[0]}
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert draws[one].isdisjoint(draws[other])


def test_gym_dataset_without_a_reference_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="gives no reference answer"):
        read_all("t", gym(dataset="graph_color", config={}), 0)


def test_gym_column_is_what_its_scorer_takes() -> None:
    """Countdown has many right answers: only its own scorer knows them all."""
    source = gym(dataset="countdown", config={"min_numbers": 3}, columns=["reasoning_gym"])
    problems, _ = read_all("t", source, 0)
    column = json.loads(json.loads(problems[0].columns)["reasoning_gym"])
    assert set(column) == {"config", "dataset", "entry"}
    assert (column["dataset"], column["config"]) == ("countdown", {"min_numbers": 3})
    entry = column["entry"]
    assert (entry["question"].strip(), entry["answer"]) == (
        problems[0].question,
        problems[0].answer,
    )
    score = reasoning_gym.get_score_answer_fn("countdown")
    assert score(entry["answer"], entry) == 1.0
    assert score(f"0 + {entry['answer']}", entry) < 1.0  # 0 is none of the numbers


def test_gym_column_leaves_the_problems_as_they_are() -> None:
    bare, _ = read_all("t", gym(), 0)
    full, _ = read_all("t", gym(columns=["reasoning_gym"]), 0)
    assert [problem.columns for problem in bare] == ["{}"] * 20
    assert [(problem.question, problem.answer) for problem in full] == [
        (problem.question, problem.answer) for problem in bare
    ]


def test_gym_dataset_that_needs_tuples_is_refused() -> None:
    source = gym(dataset="rearc", config={}, num_draws=3, columns=["reasoning_gym"])
    with pytest.raises(ValueError, match=r"t\.columns: items of rearc do not .* scores 0\.05"):
        read_all("t", source, 0)


def test_columns_are_texts_or_null(tmp_path: Path) -> None:
    tests = {"b": [1, True], "a": "ä"}
    row = {"question": "q", "answer": "1", "tests": tests, "limit": 2, "checker": None, "t": "x"}
    source = jsonl(
        tmp_path / "x.jsonl",
        [row],
        answer_after=None,
        columns=["tests", "limit", "checker", "t"],
    )
    problems, _ = read_all("t", source, 0)
    assert json.loads(problems[0].columns) == {
        "tests": '{"a": "ä", "b": [1, true]}',
        "limit": "2",
        "checker": None,
        "t": "x",
    }


def test_missing_column_is_named(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": "1", "tests": []}, {"question": "b", "answer": "1"}]
    source = jsonl(tmp_path / "x.jsonl", rows, answer_after=None, columns=["tests"])
    with pytest.raises(ValueError, match=r"t\.columns: row 2 has no field 'tests'; it has"):
        read_all("t", source, 0)


def test_column_that_json_has_no_word_for_is_named(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": "1", "limit": float("inf")}]
    source = jsonl(tmp_path / "x.jsonl", rows, answer_after=None, columns=["limit"])
    with pytest.raises(ValueError, match=r"t\.columns: 'limit' of row 1 cannot be written as JSON"):
        read_all("t", source, 0)


def test_unreachable_hub_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    source = HubSource(
        kind="hub",
        repo="owner/name",
        subset=None,
        revision="a" * 40,
        split="test",
        question_field="question",
        answer_field="answer",
        answer_after=None,
        solution_field=None,
        columns=[],
        max_invalid=0,
        num_train=1,
        num_rl=1,
        num_evaluate=1,
    )
    with pytest.raises(ValueError, match=r"hub cannot be reached for owner/name at a{40}"):
        read_all("t", source, 0)


def test_solutions_of_a_field_of_their_own_are_compared(tmp_path: Path) -> None:
    row = {"question": "a", "answer": "1", "solution": " Because. "}
    source = jsonl(
        tmp_path / "x.jsonl",
        [row, {**row, "question": "b", "solution": None}],
        answer_after=None,
        solution_field="solution",
    )
    problems, _ = read_all("t", source, 0)
    assert problems == [Problem("a", "1", "Because."), Problem("b", "1", "1")]
    with pytest.raises(ValueError, match=r"sources\.t: row 1 has no field 'solution'"):
        read_all(
            "t",
            jsonl(
                tmp_path / "y.jsonl",
                [{"question": "a", "answer": "1"}],
                answer_after=None,
                solution_field="solution",
            ),
            0,
        )


def test_text_that_cannot_be_written_is_no_text(tmp_path: Path) -> None:
    rows = [{"question": "half \ud83d", "answer": "#### 1"}, {"question": "a", "answer": "#### 1"}]
    problems, num_invalid = read_all("t", jsonl(tmp_path / "x.jsonl", rows, max_invalid=1), 0)
    assert ([problem.question for problem in problems], num_invalid) == (["a"], 1)
