"""Scores one model on one task with lm-eval."""

from __future__ import annotations

import json
from math import isclose
from typing import TYPE_CHECKING, Any

from stages._contract import manifest
from stages._contract.artifacts import write_json, write_jsonl
from stages.evaluate.shards import is_recorded, list_shards
from stages.evaluate.task import load_scorer, read_problems, read_task, system_prompt
from stages.generate.engine import check_engine, prepare_environment

if TYPE_CHECKING:
    from pathlib import Path

    from stages.evaluate.harness import Evaluated
    from stages.evaluate.params import EvaluateInputs, EvaluateParams
    from stages.evaluate.tasks.scoring import Scorer

Row = dict[str, Any]


def run(params: EvaluateParams, inputs: EvaluateInputs, out: Path, work: Path) -> dict[str, Any]:
    """Writes samples.jsonl and results.json into `out`; returns no metrics.

    Responses are kept in `work`, shard by shard: a run that was killed asks only what is missing.

    Raises:
        ValueError: the task's file or a problem is wrong, or a prompt is too long.
    """
    config = read_task(inputs.task)
    scorer = load_scorer(config)
    rows = read_problems(inputs.problems, scorer)
    shards = list_shards(rows, params.shard_size, work)
    parts = sorted(work.glob("part-*.json"))  # what `fill` noted
    if parts:
        manifest.note(parts=[json.loads(path.read_text(encoding="utf-8")) for path in parts])
    evaluated, num_tokens, facts = _ask(params, inputs, config, rows, shards, work / "datasets")
    problems = {row["id"]: scorer.prepare(row) for row in rows}
    samples = [
        make_sample(scorer, problem, evaluated.responses[name], num_tokens[name])
        for name, problem in sorted(problems.items())
    ]
    results = scorer.summarise(samples, problems)
    for key in (metric["metric"] for metric in config["metric_list"]):
        assert isclose(evaluated.metrics[key], results[key] or 0.0, abs_tol=1e-9), key
    write_jsonl(out / "samples.jsonl", samples)
    write_json(out / "results.json", results)
    manifest.note(
        **facts,
        task_version=config["metadata"]["version"],
        num_generated_tokens=sum(sum(row["num_tokens"]) for row in samples),
    )
    return {}


def fill(
    params: EvaluateParams, inputs: EvaluateInputs, work: Path, index: int, num_parts: int
) -> None:
    """Leaves in `work` those shards whose number modulo `num_parts` is `index`, for `run` to find.

    Raises:
        ValueError: as `run`.
    """
    config = read_task(inputs.task)
    rows = read_problems(inputs.problems, load_scorer(config))
    shards = dict(list(list_shards(rows, params.shard_size, work).items())[index::num_parts])
    if all(is_recorded(path, names, config["repeats"]) for path, names in shards.items()):
        return
    # What `datasets` makes of the problems is each part's own.
    cache = work / f"datasets-{index:05}"
    _, _, facts = _ask(params, inputs, config, rows, shards, cache)
    write_json(work / f"part-{index:05}.json", facts)


def _ask(
    params: EvaluateParams,
    inputs: EvaluateInputs,
    config: dict[str, Any],
    rows: list[Row],
    shards: dict[Path, list[str]],
    cache: Path,
) -> tuple[Evaluated, dict[str, list[int]], dict[str, Any]]:
    """Returns what lm-eval finds for the shards, tokens by problem, and facts about the engine.

    Without a missing shard no engine is started.
    """
    num_samples = config["repeats"]
    done = [names for path, names in shards.items() if is_recorded(path, names, num_samples)]
    engine = None
    facts: dict[str, Any] = {"resumed_after_num_problems": sum(map(len, done))}
    prepare_environment(
        params.num_threads, params.cpu_isa, batch_invariant=params.engine.batch_invariant
    )
    # Only now: vLLM reads the environment when it is imported, which takes seconds.
    from stages.evaluate.harness import (  # noqa: PLC0415
        ask,
        load_model,
        load_task,
        read_conversations,
    )
    from stages.evaluate.recorded import Recorded  # noqa: PLC0415

    task = load_task(config, load_scorer(config), inputs.problems, cache)
    if len(done) < len(shards):
        max_gen_toks = config["generation_kwargs"]["max_gen_toks"]
        conversations = read_conversations(task, system_prompt(rows))
        engine = load_model(params, inputs.model, conversations, max_gen_toks)
        facts |= {
            "backend": "vllm",
            "settings": check_engine(
                engine.model, params.engine, params.num_threads, params.cpu_isa
            ),
        }
    model = Recorded(shards, num_samples, engine)
    asked = {name for names in shards.values() for name in names}
    numbers = [number for number, row in enumerate(rows) if row["id"] in asked]
    evaluated = ask(model, task, system_prompt(rows), numbers)
    return evaluated, model.num_tokens, facts


def make_sample(scorer: Scorer, problem: Row, responses: list[str], num_tokens: list[int]) -> Row:
    """Returns a row of samples.jsonl."""
    answers, correct = scorer.score(responses, problem)
    # What lets anybody judge the answers again, as far as it is small.
    kept = {name: problem[name] for name in scorer.kept or ()}
    return {
        "id": problem["id"],
        "responses": responses,
        **({"answers": answers, "columns": kept} if scorer.keeps_answers else {}),
        "formatted": [answer is not None for answer in answers],
        "correct": correct,
        "num_tokens": num_tokens,
    }
