"""Task files and problems are read strictly, and reach lm-eval unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.model import LM

from stages._contract.artifacts import write_jsonl
from stages.evaluate.harness import ask, load_task
from stages.evaluate.task import read_problems, read_task, system_prompt
from stages.evaluate.tasks.scoring import SCORER

Row = dict[str, Any]

TASKS = Path(__file__).parents[3] / "stages/evaluate/tasks"
ARITHMETIC = (TASKS / "arithmetic.yaml").read_text()
SAMPLED = (
    ARITHMETIC.replace("do_sample: false", "do_sample: true\n  top_p: 0.95")
    .replace("temperature: 0.0", "temperature: 0.6")
    .replace("repeats: 1 ", "repeats: 3 ")
    .replace("k: 1 ", "k: 3 ")
)
NUM_SAMPLES = {
    "aime_2024": 64,
    "aime_2025": 64,
    "bbq": 1,
    "crows_pairs": 1,
    "gpqa_diamond": 64,
    "gsm8k": 4,
    "ifeval": 4,
    "livecodebench": 8,
    "math_500": 16,
}


def _write(folder: Path, text: str) -> Path:
    path = folder / "arithmetic.yaml"
    path.write_text(text)
    return path


def _problem(name: str, question: str, answer: str, system: str | None = "Think.") -> Row:
    prompt = [{"role": "user", "content": question}]
    if system is not None:
        prompt.insert(0, {"role": "system", "content": system})
    return {"id": name, "task": "arithmetic", "prompt": prompt, "answer": answer}


@pytest.mark.parametrize("path", sorted(TASKS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_tasks(path: Path) -> None:
    """Each shipped file passes, and is greedy or has R1's protocol (arXiv:2501.12948, D.1)."""
    config = read_task(path)
    assert config["task"] == path.stem
    assert config["metadata"]["version"] == 1.0
    if path.stem in ("arithmetic", "larger_sums"):
        assert config["generation_kwargs"]["do_sample"] is False
        assert config["repeats"] == 1
    else:
        assert config["repeats"] == NUM_SAMPLES[path.stem]
        assert config["generation_kwargs"] == {
            "do_sample": True,
            "temperature": 0.6,
            "top_p": 0.95,
            "max_gen_toks": 32768,
            "until": [],
        }


def test_sampled_task(tmp_path: Path) -> None:
    """R1's protocol is a change of four lines."""
    config = read_task(_write(tmp_path, SAMPLED))
    assert config["repeats"] == 3
    assert config["generation_kwargs"]["temperature"] == 0.6
    assert config["generation_kwargs"]["top_p"] == 0.95


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("task: arithmetic", "task: sums", "task must be 'arithmetic', not 'sums'"),
        ("doc_to_text:", "doc_to_txt:", "unknown key 'doc_to_txt': did you mean doc_to_text?"),
        ("repeats: 1", "repeats: 1\nrepeats: 2", "found duplicate key"),
        ("dataset_path: json", "dataset_path: gsm8k", "dataset_path must be 'json', not 'gsm8k'"),
        ("num_fewshot: 0", "num_fewshot: 4", "num_fewshot must be 0, not 4"),
        ("max_gen_toks: 64", "max_tokens: 64", "unknown key 'max_tokens': did you mean max_gen"),
        ("  max_gen_toks: 64", "", "generation_kwargs: max_gen_toks is missing"),
        ("max_gen_toks: 64", "max_gen_toks: 0", "max_gen_toks must be >= 1, not 0"),
        ("temperature: 0.0", "temperature: 0.6", "do_sample is False but temperature is 0.6"),
        ("do_sample: false", "do_sample: true", "do_sample is True but temperature is 0.0"),
        ("do_sample: false", "do_sample: false\n  seed: 1", "unknown key 'seed'"),
        ("until: []", "until: ['</answer>']", r"until must be \[\], not \['</answer>'\]"),
        ("repeats: 1", "repeats: 4", "repeats is 4 with do_sample False"),
        ("repeats: 1", "repeats: 0", "repeats is 0"),
        ("k: 1 ", "k: 2 ", "filter_list must be .*'k': 1.*, not .*'k': 2"),
        (
            "scoring.process_results",
            "scoring.score",
            "process_results must be one of scoring, boxed",
        ),
        ("version: 1.0", "author: me", "metadata.version is missing"),
        ("metric_list:", "metric_list: [", "is not valid YAML"),
        ("metric: format_rate", "metric: format", "metric_list must be .* not .*'format'"),
        ("metric: accuracy ", "name: accuracy ", "metric_list must be .*'name': 'accuracy'"),
        (
            ARITHMETIC[ARITHMETIC.index("  do_sample") : ARITHMETIC.index("repeats:")],
            "",
            "generation_kwargs must be a mapping, not None",
        ),
    ],
)
def test_wrong_task_files(tmp_path: Path, old: str, new: str, message: str) -> None:
    """Each mistake is named, before a model is loaded."""
    assert old in ARITHMETIC
    with pytest.raises(ValueError, match=message):
        read_task(_write(tmp_path, ARITHMETIC.replace(old, new)))


def test_metrics_are_those_of_the_scorer(tmp_path: Path) -> None:
    """Where answers have no votes there is no majority; lm-eval would say so after all is asked."""
    text = (TASKS / "ifeval.yaml").read_text()
    votes = "{metric: majority_accuracy, aggregation: mean, higher_is_better: true}"
    path = tmp_path / "ifeval.yaml"
    path.write_text(text.replace("metric_list:", f"metric_list:\n  - {votes}"))
    with pytest.raises(ValueError, match="metric_list must be .* not .*majority_accuracy"):
        read_task(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": None}, r"x.jsonl:2: answer must be text, not None"),
        ({"level": "1"}, "unknown key 'level'"),
        ({"id": "a"}, "the id 'a' occurs twice"),
        ({"answer": ""}, "x.jsonl:2"),
        ({"prompt": [{"role": "assistant", "content": "Hi"}]}, r"prompt must be \[system,\] user"),
    ],
)
def test_wrong_problems(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """The line is named."""
    path = tmp_path / "x.jsonl"
    write_jsonl(path, [_problem("a", "1 + 1", "2"), {**_problem("b", "1 + 2", "3"), **change}])
    with pytest.raises(ValueError, match=message):
        read_problems(path, SCORER)


def test_no_problems(tmp_path: Path) -> None:
    """An empty file is not an accuracy of anything."""
    path = tmp_path / "x.jsonl"
    path.write_text("")
    with pytest.raises(ValueError, match=r"x.jsonl"):
        read_problems(path, SCORER)


def test_system_prompt() -> None:
    """All problems share it or none has it."""
    rows = [_problem("a", "1 + 1", "2"), _problem("b", "1 + 2", "3")]
    assert system_prompt(rows) == "Think."
    assert system_prompt([_problem("a", "1 + 1", "2", system=None)]) is None
    for other in ("Guess.", None):
        with pytest.raises(ValueError, match="the system prompts of a and c differ"):
            system_prompt([*rows, _problem("c", "2 + 2", "4", system=other)])


class Scripted(LM):  # type: ignore[misc]  # lm-eval ships no types
    """Answers with prepared texts, in the order of the requests."""

    tokenizer_name = "scripted"

    def __init__(self, texts: list[str]) -> None:
        """Takes one text per request."""
        super().__init__()
        self.texts = texts
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], *, add_generation_prompt: bool = True
    ) -> str:
        """Returns the messages as JSON."""
        assert add_generation_prompt
        return json.dumps(chat_history)

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Returns the prepared texts."""
        self.asked = [request.args for request in requests]
        return self.texts

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Is never asked."""
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


def test_lm_eval_asks_what_the_problems_say(tmp_path: Path) -> None:
    """Three samples of two problems: prompts, options, responses and metrics are all kept apart."""
    path = tmp_path / "x.jsonl"
    # Dates: datasets' JSON reader would turn these answers into time stamps.
    rows = [_problem("b", "2020-01-01", "2020-01-01"), _problem("a", "1 + {{1}}\n", "2")]
    write_jsonl(path, rows)
    right, wrong = (f"<think>x</think><answer>{x}</answer>" for x in ("2", "5"))
    model = Scripted([wrong, wrong, "?", right, right, wrong])
    task = load_task(read_task(_write(tmp_path, SAMPLED)), SCORER, path, tmp_path / "cache")
    evaluated = ask(model, task, system_prompt(rows), [0, 1])
    asked = [json.loads(text) for text, _ in model.asked]
    assert asked == [rows[index]["prompt"] for index in (0, 0, 0, 1, 1, 1)]
    assert {json.dumps(options, sort_keys=True) for _, options in model.asked} == {
        '{"do_sample": true, "max_gen_toks": 64, "temperature": 0.6, "top_p": 0.95, "until": []}'
    }
    assert evaluated.responses == {"b": [wrong, wrong, "?"], "a": [right, right, wrong]}
    assert evaluated.metrics["accuracy"] == pytest.approx(1 / 3)
    assert evaluated.metrics["majority_accuracy"] == 0.5
    assert evaluated.metrics["format_rate"] == pytest.approx(5 / 6)
    assert ask(Scripted([right] * 3), task, system_prompt(rows), [1]).responses == {
        "a": [right] * 3
    }
