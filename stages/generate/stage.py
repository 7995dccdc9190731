"""Samples reasoning traces for the training problems, shard by shard."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from itertools import groupby
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from stages._contract import manifest
from stages._contract.artifacts import read_jsonl, write_json, write_jsonl
from stages.generate.engine import check_engine, engine_kwargs, prepare_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stages.generate.params import GenerateInputs, GenerateParams

Row = dict[str, Any]


def run(params: GenerateParams, inputs: GenerateInputs, out: Path, work: Path) -> dict[str, Any]:
    """Writes `shard-<number>.jsonl` files of traces into `out`; returns counts and lengths.

    Complete shards are kept in `work`: a run that was killed goes on with the first missing one.

    Raises:
        ValueError: there are too few worked examples, or a prompt is too long; names the key.
    """
    shards = _list_shards(params, inputs, work)
    parts = sorted(work.glob("part-*.json"))  # what `fill` noted
    if parts:
        manifest.note(parts=[json.loads(path.read_text(encoding="utf-8")) for path in parts])
    _complete(shards, params, inputs)
    for path in shards:
        shutil.copyfile(path, out / path.name)
    traces = [trace for path in shards for trace in read_jsonl(path)]
    write_jsonl(work / manifest.STEPS, _digest_problems(traces))
    return {"generate": _measure(traces, sum(map(len, shards.values())))}


def fill(
    params: GenerateParams, inputs: GenerateInputs, work: Path, index: int, num_parts: int
) -> None:
    """Leaves in `work` those shards whose number modulo `num_parts` is `index`, for `run` to find.

    Raises:
        ValueError: as `run`.
    """
    shards = list(_list_shards(params, inputs, work).items())
    facts = _complete(dict(shards[index::num_parts]), params, inputs)
    if facts:
        write_json(work / f"part-{index:05}.json", facts)


def _list_shards(
    params: GenerateParams, inputs: GenerateInputs, work: Path
) -> dict[Path, list[Row]]:
    """Returns the problems of each shard by its path in `work`."""
    rows = sorted(read_jsonl(inputs.prompts), key=lambda row: str(row["id"]))
    return {
        work / f"shard-{number:05}.jsonl": rows[start : start + params.shard_size]
        for number, start in enumerate(range(0, len(rows), params.shard_size))
    }


def _complete(
    shards: dict[Path, list[Row]], params: GenerateParams, inputs: GenerateInputs
) -> dict[str, Any]:
    """Samples those of the shards that are not there; returns facts about that, {} without any."""
    examples = _choose_examples(inputs.examples, params.num_examples)
    missing = {path: part for path, part in shards.items() if not _is_complete(path, part, params)}
    num_done = sum(map(len, shards.values())) - sum(map(len, missing.values()))
    manifest.note(resumed_after_num_prompts=num_done)
    if not missing:
        return {}
    facts = _sample_shards(missing, examples, params, inputs.model, num_done)
    manifest.note(**facts)
    return facts


def _digest_problems(traces: list[Row]) -> Iterator[Row]:
    """Yields for each problem, as a step, the sha256 of its traces."""
    by_problem = groupby(traces, key=lambda trace: trace["id"])
    for step, (name, found) in enumerate(by_problem):
        text = json.dumps(list(found), sort_keys=True)
        yield {"step": step, "id": name, "traces": hashlib.sha256(text.encode()).hexdigest()}


def _choose_examples(path: Path, num: int) -> list[Row]:
    if num == 0:
        return []
    examples = read_jsonl(path)
    if len(examples) < num:
        raise ValueError(
            f"generate.num_examples is {num}, but {path} has {len(examples)}: lower it, or add "
            f"examples to the file that prompts.examples names"
        )
    return examples[:num]


def _is_complete(path: Path, part: Sequence[Row], params: GenerateParams) -> bool:
    """Returns whether an earlier run left the shard; half a shard never appears under its name."""
    if not path.is_file():
        return False
    keys = [(row["id"], index) for row in part for index in range(params.num_samples)]
    return [(row["id"], row["sample"]) for row in read_jsonl(path)] == keys


def _sample_shards(
    missing: dict[Path, list[Row]],
    examples: list[Row],
    params: GenerateParams,
    model: Path,
    num_done: int,
) -> dict[str, Any]:
    """Writes the shards, and returns what generated them, and how fast."""
    engine = params.engine
    prepare_environment(params.num_threads, params.cpu_isa, batch_invariant=engine.batch_invariant)
    # Only now: vLLM reads the environment when it is imported, which takes seconds.
    from transformers import AutoTokenizer  # noqa: PLC0415
    from vllm import LLM  # noqa: PLC0415

    from stages.generate.sample import draw_noise_once, sample, tokenize  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(model)
    # All prompts are checked before the first is sampled.
    prompts = {path: tokenize(tokenizer, part, examples, params) for path, part in missing.items()}
    llm = LLM(**engine_kwargs(engine, model))
    draw_noise_once(llm)
    settings = check_engine(llm, engine, params.num_threads, params.cpu_isa)
    num_rows = num_done + sum(map(len, missing.values()))
    start, num_tokens = time.monotonic(), 0
    with tqdm(
        total=num_rows * params.num_samples,
        initial=num_done * params.num_samples,
        unit="trace",
        desc="generate",
    ) as bar:
        for path, part in prompts.items():
            rows = sample(llm, part, params)
            write_jsonl(path, rows)
            num_tokens += sum(row["num_tokens"] for row in rows)
            bar.set_postfix_str(f"{num_tokens / (time.monotonic() - start):.0f} tok/s")
            bar.update(len(rows))
    return {
        "generator": "vllm",
        "settings": settings,
        "tokens_per_s": round(num_tokens / (time.monotonic() - start), 1),
    }


def _measure(rows: list[Row], num_prompts: int) -> dict[str, Any]:
    num_tokens = sum(row["num_tokens"] for row in rows)
    return {
        "num_prompts": num_prompts,
        "num_samples": len(rows),
        "num_tokens": num_tokens,
        "mean_tokens": num_tokens / len(rows),
        "truncated_rate": sum(row["finish_reason"] == "length" for row in rows) / len(rows),
    }
