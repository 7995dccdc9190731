"""The sources, and the stage from parameters to files."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
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
    HubEvaluation,
    HubSource,
    JsonlEvaluation,
    JsonlSource,
    PromptsInputs,
    PromptsParams,
    ReasoningGymSource,
)
from stages.prompts.pool import Store
from stages.prompts.sources import Problem, read_evaluation, read_source
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


def stage_params(
    against: dict[str, JsonlEvaluation | HubEvaluation] | None = None, **sources: Source
) -> PromptsParams:
    boilerplate = BoilerplateParams(ngram=5, min_frequency=0.2, num_rows=500)
    decontamination = DecontaminationParams(
        ngram=10, boilerplate=boilerplate, against=against or {}, max_matches=3
    )
    return PromptsParams(
        image="cpu",
        seed=0,
        system_prompt="Think.",
        examples="unused.jsonl",
        decontamination=decontamination,
        near_duplicates=None,
        sources=sources,
        mixture=None,
        traces=None,
    )


@pytest.fixture
def inputs(tmp_path: Path) -> PromptsInputs:
    """Returns a file with one worked example."""
    path = tmp_path / "examples.txt"
    path.write_text(json.dumps({"question": "1 + 1?", "response": "2"}) + "\n", encoding="utf-8")
    return PromptsInputs(examples=path)


def read_all(task: str, source: Source, seed: int) -> tuple[list[Problem], int]:
    """Returns a source's problems and the number of its invalid rows."""
    counts: Counter[str] = Counter()
    problems = list(read_source(task, source, seed, counts))
    return problems, counts["invalid"]


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
        "solution_field": None,
        "columns": [],
        "max_invalid": 0,
        "num_train": 1,
        "num_rl": 1,
        "num_evaluate": 1,
    }
    return JsonlSource(kind="jsonl", **(settings | changes))


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
        "matches.jsonl",
        "report.json",
        "rl.jsonl",
        "train.jsonl",
    ]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


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


def test_general_prompts_reach_training_and_rl_with_their_category(
    tmp_path: Path, inputs: PromptsInputs
) -> None:
    """The shipped files, as a track has them: R1's general data, and what reward models score."""
    settings: dict[str, Any] = {
        "kind": "jsonl",
        "question_field": "question",
        "answer_field": None,
        "answer_after": None,
        "solution_field": None,
        "columns": ["category"],
        "max_invalid": 0,
        "num_evaluate": 0,
    }
    sources: dict[str, Any] = {}
    for name, num_train, num_rl in (("general", 60, 60), ("safety", 0, 60)):
        path = Path(__file__).parents[3] / f"stages/prompts/problems/{name}.jsonl"
        pin: dict[str, Any] = {"path": str(path), "sha256": sha256_file(path)}
        sources[name] = JsonlSource(**settings, **pin, num_train=num_train, num_rl=num_rl)
    run(stage_params(**sources, gym=gym()), inputs, tmp_path, tmp_path)
    rows = read_jsonl(tmp_path / "rl.jsonl")
    assert Counter(row["task"] for row in rows if row["category"]) == {"general": 60, "safety": 60}
    assert {row["answer"] for row in rows if row["category"]} == {None}
    assert all(row["answer"] for row in rows if row["category"] is None)
    trained = [row for row in read_jsonl(tmp_path / "train.jsonl") if row["task"] == "general"]
    assert len(trained) == 60
    assert len({row["category"] for row in trained}) >= 6


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


def evaluation_set(path: Path, rows: list[Any], **changes: Any) -> JsonlEvaluation:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings: dict[str, Any] = {
        "path": str(path),
        "sha256": sha256_file(path),
        "question_field": "problem",
        "solution_field": "solution",
        "max_invalid": 0,
    }
    return JsonlEvaluation(kind="jsonl", **(settings | changes))


def test_leaks_of_other_evaluation_sets_are_listed(tmp_path: Path, inputs: PromptsInputs) -> None:
    held_out = [
        {"problem": "Zzz?", "solution": None},
        {"problem": "What is 4 and 5?", "solution": "9"},
    ]
    problems = [{"question": f"What is {n} and 5?", "answer": f"#### {n + 5}"} for n in range(9)]
    source = jsonl(tmp_path / "x.jsonl", problems, num_train=6)
    params = stage_params({"aime": evaluation_set(tmp_path / "e.jsonl", held_out)}, t=source)
    out = tmp_path / "out"
    out.mkdir()
    metrics = run(params, inputs, out, tmp_path)
    assert metrics["prompts"]["t"]["source"]["contaminated_whole"] == 1
    (match,) = read_jsonl(out / "matches.jsonl")
    assert match.pop("id").startswith("t-")
    assert match == {
        "task": "t",
        "reason": "whole",
        "evaluation_id": "aime-2",
        "shared": "what is 4 and 5",
    }
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["tasks"]["t"]["removed_by_evaluation_set"] == {"aime": 1}
    assert not (out / "evaluate" / "aime.jsonl").exists()


def test_mistakes_in_evaluation_sets_are_named(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    with pytest.raises(ValueError, match=r"against\.aime: row 1 has no field 'problem'"):
        list(read_evaluation("aime", evaluation_set(path, [{"q": "a", "solution": ""}])))
    with pytest.raises(ValueError, match=r"against\.aime has no problems"):
        list(read_evaluation("aime", evaluation_set(path, [])))
    rows = [{"problem": "", "solution": "a"}, {"problem": "b", "solution": "a"}]
    with pytest.raises(ValueError, match=r"against\.aime: 1 rows have no question .*is row 1"):
        list(read_evaluation("aime", evaluation_set(path, rows)))
    assert list(read_evaluation("aime", evaluation_set(path, rows, max_invalid=1))) == [
        ("aime-2", Problem("b", "", "a"))
    ]


def test_problems_come_back_from_the_disk(tmp_path: Path) -> None:
    store = Store(tmp_path)
    problems = [Problem("a\nb", "1", 'ü "q"', '{"x": null}'), Problem("c", "2", "")]
    offsets = [store.add(problem) for problem in problems]
    assert [store.read(offset) for offset in reversed(offsets)] == problems[::-1]
    assert store.read(store.add(problems[0])) == problems[0]
    assert list(tmp_path.iterdir()) == []  # the file has no name
