"""The stage from parameters to files: its splits, its worked examples, other evaluation sets."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import pytest

from stages._contract.artifacts import read_jsonl, sha256_file
from stages.filter.verify import is_correct, parse
from stages.prompts.params import (
    BoilerplateParams,
    DecontaminationParams,
    HubEvaluation,
    JsonlEvaluation,
    JsonlSource,
    PromptsInputs,
    PromptsParams,
    ReasoningGymSource,
)
from stages.prompts.pool import Store
from stages.prompts.sources import Problem, read_evaluation
from stages.prompts.stage import read_examples, run
from tests.unit.prompts.sources import gym, jsonl

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
