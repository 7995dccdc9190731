"""How much memory a million problems take: `python3 -m nox -s bench -- streaming`.

A JSON Lines file is made with a fixed seed, of problems of 150 words with solutions of 400, and
goes through the stage `prompts` as a source, in a process of its own whose peak of resident memory
is read: validated, put in order, decontaminated and split. The second file, of conversations of as
many words, goes through it as published traces. Both need their size on the disk twice.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.decontaminate import Writer
from stages._contract.artifacts import sha256_file, write_jsonl
from stages._contract.params import load
from stages.prompts.params import JsonlSource, JsonlTraces, PromptsInputs, PromptsParams
from stages.prompts.stage import run

NUM_ROWS = 1_000_000
SEED = 20_250_120  # DeepSeek-R1's day


def write_rows(path: Path, num: int, *, traces: bool) -> None:
    """Writes the rows, of pieces of 8 words, so that few rows share 10."""
    writer, rng = Writer(SEED), random.Random(SEED)  # noqa: S311
    pieces = [writer.write(8) for _ in range(20_000)]

    def make_row(number: int) -> dict[str, Any]:
        question = " ".join((f"Case {number}:", *rng.choices(pieces, k=18)))
        solution = " ".join(rng.choices(pieces, k=50))
        if not traces:
            return {"question": question, "answer": str(number), "solution": solution}
        roles = (("user", question), ("assistant", f"<think>{solution}</think> {number}"))
        return {"messages": [{"role": role, "content": text} for role, text in roles]}

    write_jsonl(path, (make_row(number) for number in range(num)))


def make_params(folder: Path, kind: str, num: int) -> PromptsParams:
    """Returns the recipe's parameters with the file of that kind added to them."""
    params: PromptsParams = load(Path("params.yaml"), "prompts")
    path = folder / f"{kind}.jsonl"
    pin: dict[str, Any] = {"kind": "jsonl", "path": str(path), "sha256": sha256_file(path)}
    if kind == "traces":
        traces = JsonlTraces(**pin, messages_field="messages", max_rows=None, max_invalid=0)
        return replace(params, traces=traces)
    source = JsonlSource(
        **pin,
        question_field="question",
        answer_field="answer",
        answer_after=None,
        solution_field="solution",
        columns=[],
        max_invalid=0,
        num_train=num // 4,
        num_rl=num // 10,
        num_evaluate=1000,
    )
    return replace(params, sources={**params.sources, "stories": source})


def measure(folder: Path, kind: str, num: int) -> tuple[float, float, float]:
    """Returns the stage's seconds, by the clock and by the CPU, and its peak in GiB."""
    params = make_params(folder, kind, num)
    out, work = folder / f"{kind}.out", folder / f"{kind}.work"
    out.mkdir()
    work.mkdir()
    start = time.perf_counter()
    run(params, PromptsInputs(examples=Path(params.examples)), out, work)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return seconds, time.process_time(), peak


def main() -> None:
    """Prints the table."""
    num = int(sys.argv[1]) if len(sys.argv) > 1 else NUM_ROWS
    print(f"{num} rows each\n\n| read as | GiB on the disk | seconds | of CPU | peak, GiB |")
    print("|---|---:|---:|---:|---:|")
    for kind in ("source", "traces"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_rows(folder / f"{kind}.jsonl", num, traces=kind == "traces")
            size = (folder / f"{kind}.jsonl").stat().st_size / 2**30
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds, cpu, peak = pool.apply(measure, (folder, kind, num))
            print(f"| {kind} | {size:.1f} | {seconds:.0f} | {cpu:.0f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()
