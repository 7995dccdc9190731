"""A tiny real Llama through the real engine and lm-eval: values, seeds and repeatability."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from stages._contract.artifacts import read_jsonl, write_jsonl
from stages._contract.run import set_environment
from stages.evaluate.params import EvaluateInputs, EvaluateParams
from stages.evaluate.stage import fill, run
from tests.engine import CPU
from tests.tiny_model import answer, question, write_model

TASKS = Path(__file__).parents[2] / "stages/evaluate/tasks"
TASK = TASKS / "arithmetic.yaml"
PARAMS = EvaluateParams(
    image="cpu",
    seed=0,
    num_threads=1,
    cpu_isa="native",
    problems="artifacts/prompts/evaluate",
    shard_size=5,
    engine=replace(
        CPU,
        max_model_len=256,
        max_num_seqs=8,
        max_num_batched_tokens=512,
        kv_cache_memory_bytes=2**24,
    ),
)
NUM_PROBLEMS = 12
NUM_SAMPLES = 4


def _write_task(folder: Path, *, sampled: bool) -> Path:
    text = TASK.read_text()
    if sampled:
        text = text.replace("do_sample: false", "do_sample: true\n  top_p: 0.95")
        text = text.replace("temperature: 0.0", "temperature: 0.6")
        text = text.replace("repeats: 1 ", f"repeats: {NUM_SAMPLES} ")
        text = text.replace("k: 1 ", f"k: {NUM_SAMPLES} ")
    folder.mkdir()
    path = folder / "arithmetic.yaml"
    path.write_text(text)
    return path


def _open_thoughts(folder: Path) -> None:
    """Makes the model's chat template end prompts with an open think tag, as R1-Distill's does."""
    path = folder / "chat_template.jinja"
    text = path.read_text()
    assert text.count("assistant\n") == 1
    path.write_text(text.replace("assistant\n", "assistant\n<think>"))


Job = tuple[Path, Path, list[dict[str, Any]], list[int]]


def _run(cpu: int, models: Path, jobs: list[Job]) -> None:
    """Runs the stage once per job (folder, task, problems, halves done before), on one CPU.

    If both halves were done before, it runs without a model. The model's template opens thoughts
    in folders whose name says so.
    """
    os.sched_setaffinity(0, {cpu})
    set_environment("evaluate", PARAMS)
    for folder, task, rows, halves in jobs:
        out, work = folder / "out", folder / "work"
        for path in (out, work):
            path.mkdir(parents=True)
        problems = folder / "problems.jsonl"
        write_jsonl(problems, rows)
        model = models / ("opens" if "opens" in folder.name else "model")
        inputs = EvaluateInputs(model=model, task=task, problems=problems)
        for index in halves:
            fill(PARAMS, inputs, work, index, 2)
        if len(halves) > 1:
            inputs = replace(inputs, model=folder / "nowhere")
        run(PARAMS, inputs, out, work)


def _run_all(folder: Path, jobs: list[list[Job]]) -> None:
    """Runs each list of jobs in a process of its own, all at the same time."""
    cpus = sorted(os.sched_getaffinity(0))
    with ProcessPoolExecutor(len(jobs), get_context("spawn")) as pool:
        for future in [
            pool.submit(_run, cpu, folder, part)
            for cpu, part in zip((cpus[0], cpus[-1]), jobs, strict=True)
        ]:
            future.result()


def _make_rows() -> list[dict[str, Any]]:
    return [
        {
            "id": f"p{number}",
            "task": "arithmetic",
            "prompt": [{"role": "user", "content": question(number)}],
            "answer": answer(number),
        }
        for number in range(10, 10 + NUM_PROBLEMS)
    ]


@pytest.mark.pipeline
def test_evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampled, greedy, and in another process sampled again: all problems, and half of them.

    Shows: the responses are scored and counted; the samples of one problem differ; the files are
    the same bytes again, also if one or both halves were recorded before, and without an engine if
    both were; a problem's samples are the same whatever else is asked, so that they come from their
    own seeds and not from the engine's random numbers.
    """
    write_model(tmp_path / "model")
    shutil.copytree(tmp_path / "model", tmp_path / "opens")
    _open_thoughts(tmp_path / "opens")
    rows = _make_rows()
    greedy = _write_task(tmp_path / "greedy_task", sampled=False)
    sampled = _write_task(tmp_path / "sampled_task", sampled=True)
    boxed = tmp_path / "gsm8k.yaml"
    text = (TASKS / "gsm8k.yaml").read_text()
    boxed.write_text(text.replace("max_gen_toks: 32768", "max_gen_toks: 16"))
    # lm-eval sorts by text: in `sampled`, the problems of `part` (answer 2) come after all others.
    jobs: list[list[Job]] = [
        [
            (tmp_path / "sampled", sampled, rows, []),
            (tmp_path / "greedy", greedy, rows, []),
            (tmp_path / "goes on", sampled, rows, [1]),
            (tmp_path / "boxed opens", boxed, rows, []),
        ],
        [
            (tmp_path / "again", sampled, rows[::-1], []),
            (tmp_path / "part", sampled, rows[1::2], []),
            (tmp_path / "halves", sampled, rows, [1, 0]),
            (tmp_path / "opens", sampled, rows, [1, 0]),
        ],
    ]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # a process that is spawned loads torch at once
    _run_all(tmp_path, jobs)
    _check_greedy(tmp_path, rows)
    _check_sampled(tmp_path)
    _check_opened(tmp_path)


def _check_greedy(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """Responses are scored one by one, and counted."""
    samples = read_jsonl(tmp_path / "greedy/out/samples.jsonl")
    results = json.loads((tmp_path / "greedy/out/results.json").read_text())
    assert [row["id"] for row in samples] == [row["id"] for row in rows]
    golds = {row["id"]: row["answer"] for row in rows}
    for row in samples:
        (text,) = row["responses"]
        assert row["formatted"] == [text in {_trace(a, b) for a in "12" for b in "12"}]
        assert row["correct"] == [row["formatted"][0] and f">{golds[row['id']]}<" in text[-20:]]
        assert row["num_tokens"] == [7]  # six words and the end token
    right = sum(row["correct"][0] for row in samples)
    assert 0 < right < NUM_PROBLEMS
    assert results["accuracy"] == right / NUM_PROBLEMS
    assert results["num_samples"] == NUM_PROBLEMS


def _check_sampled(tmp_path: Path) -> None:
    """Samples of a problem differ, and are the same whenever and with whatever they are asked."""
    out = tmp_path / "sampled/out"
    samples = read_jsonl(out / "samples.jsonl")
    assert all(len(row["responses"]) == NUM_SAMPLES for row in samples)
    assert any(len(set(row["responses"])) > 1 for row in samples)
    for name in ("samples.jsonl", "results.json"):
        for again in ("again", "goes on", "halves"):
            assert (tmp_path / again / "out" / name).read_bytes() == (out / name).read_bytes()
    assert read_jsonl(tmp_path / "part/out/samples.jsonl") == samples[1::2]


def _check_opened(tmp_path: Path) -> None:
    """What the template opened is there again, or no response would be in the format."""
    responses = [row["responses"] for row in read_jsonl(tmp_path / "opens/out/samples.jsonl")]
    assert all(text.count("<think>") == 1 for texts in responses for text in texts)
    results = json.loads((tmp_path / "opens/out/results.json").read_text())
    assert results["format_rate"] > 0.5
    # The model never writes a box: R1's protocol finds no answer, after the thought or before.
    rows = read_jsonl(tmp_path / "boxed opens/out/samples.jsonl")
    assert [row["answers"] for row in rows] == [[None] * 4] * NUM_PROBLEMS
    results = json.loads((tmp_path / "boxed opens/out/results.json").read_text())
    assert results["num_samples"] == 4 * NUM_PROBLEMS
    assert results["format_rate"] == results["majority_accuracy"] == 0.0


def _trace(think: str, final: str) -> str:
    return f"<think>{think}</think><answer>{final}</answer>"
