"""Scores one model on one task with lm-eval."""

from __future__ import annotations

from math import isclose
from typing import TYPE_CHECKING, Any

from stages._contract import manifest
from stages._contract.artifacts import write_json, write_jsonl
from stages.evaluate.task import read_problems, read_task, system_prompt
from stages.evaluate.tasks.scoring import majority_is_correct, score, summarise
from stages.generate.engine import check_engine, prepare_environment

if TYPE_CHECKING:
    from pathlib import Path

    from stages.evaluate.params import EvaluateInputs, EvaluateParams

Row = dict[str, Any]


def run(params: EvaluateParams, inputs: EvaluateInputs, out: Path, work: Path) -> dict[str, Any]:
    """Writes samples.jsonl and results.json into `out`; returns no metrics.

    Raises:
        ValueError: the task's file or a problem is wrong, or a prompt is too long.
    """
    config = read_task(inputs.task)
    rows = read_problems(inputs.problems)
    system = system_prompt(rows)
    engine = params.engine
    prepare_environment(params.num_threads, params.cpu_isa, batch_invariant=engine.batch_invariant)
    # Only now: vLLM reads the environment when it is imported, which takes seconds.
    from stages.evaluate.harness import ask, load_model, load_task  # noqa: PLC0415

    task = load_task(config, inputs.problems, work / "datasets")
    max_gen_toks = config["generation_kwargs"]["max_gen_toks"]
    model = load_model(params, inputs.model, rows, max_gen_toks)
    settings = check_engine(model.model, engine, params.num_threads, params.cpu_isa)
    evaluated = ask(model, task, system)
    golds = {row["id"]: row["answer"] for row in rows}
    samples = [
        _make_sample(name, gold, evaluated.responses[name], model.num_tokens[name])
        for name, gold in sorted(golds.items())
    ]
    majority = [majority_is_correct(row["responses"], golds[row["id"]]) for row in samples]
    results = summarise(samples, majority)
    for key in ("accuracy", "majority_accuracy", "format_rate"):
        assert isclose(evaluated.metrics[key], results[key] or 0.0, abs_tol=1e-9), key
    write_jsonl(out / "samples.jsonl", samples)
    write_json(out / "results.json", results)
    manifest.note(
        backend="vllm",
        settings=settings,
        task_version=config["metadata"]["version"],
        num_generated_tokens=sum(sum(row["num_tokens"]) for row in samples),
    )
    return {}


def _make_sample(name: str, gold: str, responses: list[str], num_tokens: list[int]) -> Row:
    scores = [score(text, gold) for text in responses]
    return {
        "id": name,
        "responses": responses,
        "formatted": [formatted for formatted, _ in scores],
        "correct": [correct for _, correct in scores],
        "num_tokens": num_tokens,
    }
