"""The sources, and the stage from parameters to files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import pytest
import reasoning_gym

from stages._contract.artifacts import read_jsonl, sha256_file
from stages.filter.verify import is_correct, parse
from stages.prompts.params import (
    BoilerplateParams,
    DecontaminationParams,
    HubSource,
    JsonlSource,
    PromptsInputs,
    PromptsParams,
    ReasoningGymSource,
)
from stages.prompts.sources import Problem, read_source
from stages.prompts.stage import read_examples, run

if TYPE_CHECKING:
    from stages.prompts.params import Source

CHAIN_SUM = ReasoningGymSource(
    kind="reasoning-gym",
    dataset="chain_sum",
    config={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
    columns=[],
    num_draws=4000,
    num_train=600,
    num_rl=600,
    num_evaluate=300,
)


def stage_params(**sources: Source) -> PromptsParams:
    boilerplate = BoilerplateParams(ngram=5, min_frequency=0.2, num_rows=500)
    decontamination = DecontaminationParams(ngram=10, boilerplate=boilerplate)
    return PromptsParams(
        image="cpu",
        seed=0,
        system_prompt="Think.",
        examples="unused.jsonl",
        decontamination=decontamination,
        sources=sources,
        traces=None,
    )


@pytest.fixture
def inputs(tmp_path: Path) -> PromptsInputs:
    """Returns a file with one worked example."""
    path = tmp_path / "examples.txt"
    path.write_text(json.dumps({"question": "1 + 1?", "response": "2"}) + "\n", encoding="utf-8")
    return PromptsInputs(examples=path)


def gym(**changes: Any) -> ReasoningGymSource:
    settings: dict[str, Any] = {
        "dataset": "chain_sum",
        "config": {"min_terms": 2, "max_terms": 2},
        "columns": [],
        "num_draws": 20,
        "num_train": 1,
        "num_rl": 1,
        "num_evaluate": 1,
    }
    return ReasoningGymSource(kind="reasoning-gym", **(settings | changes))


def jsonl(path: Path, rows: list[Any], **changes: Any) -> JsonlSource:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings: dict[str, Any] = {
        "path": str(path),
        "sha256": sha256_file(path),
        "question_field": "question",
        "answer_field": "answer",
        "answer_after": "####",
        "columns": [],
        "max_invalid": 0,
        "num_train": 1,
        "num_rl": 1,
        "num_evaluate": 1,
    }
    return JsonlSource(kind="jsonl", **(settings | changes))


def test_default_task_is_disjoint_and_complete(tmp_path: Path, inputs: PromptsInputs) -> None:
    metrics = run(stage_params(chain_sum=CHAIN_SUM), inputs, tmp_path, tmp_path)
    splits = [
        read_jsonl(tmp_path / name)
        for name in ("evaluate/chain_sum.jsonl", "rl.jsonl", "train.jsonl")
    ]
    assert [len(rows) for rows in splits] == [300, 600, 600]
    rows = [row for part in splits for row in part]
    assert len({row["prompt"][1]["content"] for row in rows}) == 1500
    assert len({row["id"] for row in rows}) == 1500
    for row in rows:
        found = re.fullmatch(
            r"State the final answer .* problem: (\d+) ([+-]) (\d+) =",
            row["prompt"][1]["content"],
        )
        assert found is not None
        left, sign, right = int(found[1]), found[2], int(found[3])
        assert row["answer"] == str(left + right if sign == "+" else left - right)
    assert metrics["prompts"]["chain_sum"]["splits"] == {"evaluate": 300, "rl": 600, "train": 600}
    assert metrics["prompts"]["chain_sum"]["source"]["rows"] == 4000
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["decontamination"]["boilerplate"]["chain_sum"]) == 5


def test_splits_have_the_same_difficulty(tmp_path: Path, inputs: PromptsInputs) -> None:
    """Easy one-digit sums, few and soon exhausted, must not crowd one split."""
    run(stage_params(chain_sum=CHAIN_SUM), inputs, tmp_path, tmp_path)
    for name in ("evaluate/chain_sum.jsonl", "rl.jsonl", "train.jsonl"):
        rows = read_jsonl(tmp_path / name)
        easy = [row for row in rows if re.search(r": \d [+-] \d =", row["prompt"][1]["content"])]
        assert 0.06 < len(easy) / len(rows) < 0.13  # about 200 of 2092 distinct ones


def test_same_parameters_give_the_same_bytes(tmp_path: Path, inputs: PromptsInputs) -> None:
    source = jsonl(
        tmp_path / "x.jsonl", [{"question": f"{n}?", "answer": f"#### {n}"} for n in range(9)]
    )
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run(stage_params(gym=gym(), file=source), inputs, tmp_path / name, tmp_path)
    files = sorted(file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*.json*"))
    assert [str(file) for file in files] == [
        "evaluate/file.jsonl",
        "evaluate/gym.jsonl",
        "examples.jsonl",
        "report.json",
        "rl.jsonl",
        "train.jsonl",
    ]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_answer_is_what_follows_the_last_marker(tmp_path: Path) -> None:
    row = {"question": " How many? ", "answer": "Not #### 3 but 1,080.\n#### 1,080 "}
    problems, num_invalid = read_source("t", jsonl(tmp_path / "x.jsonl", [row]), 0)
    assert problems == [Problem("How many?", "1,080", row["answer"].strip())]
    assert num_invalid == 0


def test_numbers_are_answers_too(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": 0}, {"question": "b", "answer": 1.5}]
    problems, _ = read_source("t", jsonl(tmp_path / "x.jsonl", rows, answer_after=None), 0)
    assert [problem.answer for problem in problems] == ["0", "1.5"]


@pytest.mark.parametrize("bad", ["no marker", "#### ", None, True, ["#### 1"]])
def test_invalid_rows_count_against_the_limit(tmp_path: Path, bad: Any) -> None:
    rows = [{"question": "a", "answer": "#### 1"}, {"question": "b", "answer": bad}]
    problems, num_invalid = read_source("t", jsonl(tmp_path / "x.jsonl", rows, max_invalid=1), 0)
    assert (len(problems), num_invalid) == (1, 1)
    with pytest.raises(ValueError, match=r"sources\.t: 1 rows have no usable .* is row 2\), more "):
        read_source("t", jsonl(tmp_path / "x.jsonl", rows), 0)


def test_missing_field_is_named(tmp_path: Path) -> None:
    rows = [{"question": "a", "solution": "#### 1"}]
    with pytest.raises(ValueError, match=r"row 1 has no field 'answer'; it has \['question', 's"):
        read_source("t", jsonl(tmp_path / "x.jsonl", rows), 0)


def test_changed_file_is_refused(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", [{"question": "a", "answer": "#### 1"}])
    (tmp_path / "x.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"sources\.t\.sha256 is .* the file was changed"):
        read_source("t", source, 0)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"empty\.jsonl"):
        read_source("t", jsonl(tmp_path / "empty.jsonl", []), 0)
    source = jsonl(tmp_path / "gone.jsonl", [{}])
    (tmp_path / "gone.jsonl").unlink()
    with pytest.raises(ValueError, match=r"sources\.t\.path .*gone\.jsonl' is not a file"):
        read_source("t", source, 0)


def test_source_of_invalid_rows_only_is_empty(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", [{"question": "", "answer": ""}], max_invalid=1)
    with pytest.raises(ValueError, match=r"sources\.t has no problems"):
        read_source("t", source, 0)


def test_gym_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"no 'chain_sums': did you mean 'chain_sum'\?"):
        read_source("t", gym(dataset="chain_sums"), 0)
    with pytest.raises(ValueError, match=r"chain_sum has no setting 'terms'; it has \['allow_neg"):
        read_source("t", gym(config={"terms": 2}), 0)
    with pytest.raises(ValueError, match="is not valid for chain_sum: max_terms must be"):
        read_source("t", gym(config={"min_terms": 3, "max_terms": 2}), 0)


def test_gym_seeds_differ_by_task_and_seed() -> None:
    draws = [
        {problem.question for problem in read_source(task, gym(config={}), seed)[0]}
        for task, seed in (("a", 0), ("b", 0), ("a", 1))
    ]
    assert draws[0] == {problem.question for problem in read_source("a", gym(config={}), 0)[0]}
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert draws[one].isdisjoint(draws[other])


def test_gym_dataset_without_a_reference_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="gives no reference answer"):
        read_source("t", gym(dataset="graph_color", config={}), 0)


def test_gym_column_is_what_its_scorer_takes() -> None:
    """Countdown has many right answers: only its own scorer knows them all."""
    source = gym(dataset="countdown", config={"min_numbers": 3}, columns=["reasoning_gym"])
    problems, _ = read_source("t", source, 0)
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
    bare, _ = read_source("t", gym(), 0)
    full, _ = read_source("t", gym(columns=["reasoning_gym"]), 0)
    assert [problem.columns for problem in bare] == ["{}"] * 20
    assert [(problem.question, problem.answer) for problem in full] == [
        (problem.question, problem.answer) for problem in bare
    ]


def test_gym_dataset_that_needs_tuples_is_refused() -> None:
    source = gym(dataset="rearc", config={}, num_draws=3, columns=["reasoning_gym"])
    with pytest.raises(ValueError, match=r"t\.columns: items of rearc do not .* scores 0\.05"):
        read_source("t", source, 0)


def test_columns_are_texts_or_null(tmp_path: Path) -> None:
    tests = {"b": [1, True], "a": "ä"}
    row = {"question": "q", "answer": "1", "tests": tests, "limit": 2, "checker": None, "t": "x"}
    source = jsonl(
        tmp_path / "x.jsonl",
        [row],
        answer_after=None,
        columns=["tests", "limit", "checker", "t"],
    )
    problems, _ = read_source("t", source, 0)
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
        read_source("t", source, 0)


def test_column_that_json_has_no_word_for_is_named(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": "1", "limit": float("inf")}]
    source = jsonl(tmp_path / "x.jsonl", rows, answer_after=None, columns=["limit"])
    with pytest.raises(ValueError, match=r"t\.columns: 'limit' of row 1 cannot be written as JSON"):
        read_source("t", source, 0)


def test_problems_without_an_answer_reach_the_rl_split(
    tmp_path: Path, inputs: PromptsInputs
) -> None:
    rows = [{"question": f"Write f{n}.", "tests": [n]} for n in range(3)]
    code = jsonl(
        tmp_path / "x.jsonl",
        rows,
        answer_field=None,
        answer_after=None,
        columns=["tests"],
        num_train=0,
        num_rl=3,
        num_evaluate=0,
    )
    run(stage_params(code=code, gym=gym()), inputs, tmp_path, tmp_path)
    dataset = datasets.Dataset.from_list(read_jsonl(tmp_path / "rl.jsonl"))
    found = {row["prompt"][-1]["content"]: row for row in dataset if row["task"] == "code"}
    assert {question: row["tests"] for question, row in found.items()} == {
        "Write f0.": "[0]",
        "Write f1.": "[1]",
        "Write f2.": "[2]",
    }
    assert {row["answer"] for row in found.values()} == {None}
    assert [row["tests"] for row in dataset if row["task"] == "gym"] == [None]
    assert not (tmp_path / "evaluate" / "code.jsonl").exists()


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
        columns=[],
        max_invalid=0,
        num_train=1,
        num_rl=1,
        num_evaluate=1,
    )
    with pytest.raises(ValueError, match=r"hub cannot be reached for owner/name at a{40}"):
        read_source("t", source, 0)


def test_examples_become_conversations(inputs: PromptsInputs) -> None:
    assert read_examples(inputs.examples) == [
        {"prompt": [{"role": "user", "content": "1 + 1?"}], "response": "2"}
    ]


@pytest.mark.parametrize(
    "row", [{"question": "1 + 1?"}, {"question": "1 + 1?", "response": 2}, {"a": "b"}]
)
def test_bad_example_names_its_line(inputs: PromptsInputs, row: dict[str, Any]) -> None:
    inputs.examples.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"examples\.txt:1 must have a question and a response"):
        read_examples(inputs.examples)


def test_shipped_examples_are_right_and_in_the_format() -> None:
    path = Path(__file__).parents[3] / "stages" / "prompts" / "examples" / "arithmetic.jsonl"
    examples = read_examples(path)
    assert len(examples) == 8
    for example in examples:
        question = example["prompt"][0]["content"]
        numbers = [int(number) for number in re.findall(r"\d+", question)]
        assert question == f"Calculate {' + '.join(map(str, numbers))}."
        assert is_correct(example["response"], str(sum(numbers)))
        for step in parse(example["response"]).think.splitlines():  # type: ignore[union-attr]
            left, right = step.split(" = ")
            assert sum(map(int, left.split(" + "))) == int(right)
