"""Keeps the verified traces of the training problems, as data for `sft`."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import read_jsonl, write_jsonl
from stages.filter.card import write_card
from stages.filter.mix import read_mix
from stages.filter.select import REASONS, find_out_of_band, group, is_solved, judge, select

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from stages.filter.params import FilterInputs, FilterParams

Row = dict[str, Any]


def run(params: FilterParams, inputs: FilterInputs, out: Path, work: Path) -> dict[str, Any]:
    """Writes train.jsonl, rejects.jsonl, prompts.jsonl and a card into `out`; returns the counts.

    Every trace is in exactly one of the first two, the other data sets' rows follow the traces, and
    prompts.jsonl has the problems whose pass rate is in the band: dynamic sampling beforehand. A
    problem without an answer has no pass rate, and stays.

    Raises:
        ValueError: the traces do not belong to the problems, or too few are kept.
    """
    del work
    problems = {row["id"]: row for row in read_jsonl(inputs.prompts)}
    check_answers(problems.values(), params.unverified_tasks)
    shards = sorted(inputs.generations.glob("*.jsonl"))
    if not shards:
        raise ValueError(
            f"filter.generations: {inputs.generations} has no *.jsonl file: name a folder that "
            f"generate has written"
        )
    traces = [row for path in shards for row in read_jsonl(path)]
    kept: list[Row] = []
    rejects: list[Row] = []
    verdicts: list[list[str | None]] = []
    in_band = set()
    for name, samples in group(traces, problems, inputs.generations).items():
        gold = problems[name]["answer"]
        reasons = [judge(row, gold, params) for row in samples]
        out_of_band = None
        if gold:
            verdicts.append(reasons)
            out_of_band = find_out_of_band(reasons, params)
        if out_of_band is None:
            in_band.add(name)
        final = select(samples, reasons, params, out_of_band)
        for row, reason in zip(samples, final, strict=True):
            if reason is None:
                kept.append(_make_row(problems[name], row))
            else:
                rejects.append(_make_reject(row, reason))
    metrics = measure(verdicts, len(kept), rejects)
    metrics |= {"num_prompts": len(problems), "num_prompts_in_band": len(in_band)}
    metrics["num_prompts_kept"] = len({row["id"] for row in kept})
    if len(kept) < params.min_rows:
        raise ValueError(
            f"only {len(kept)} traces are left, fewer than filter.min_rows = {params.min_rows} "
            f"(rejected: {metrics['rejects']}): sample more with generate.num_samples or "
            f"prompts.sources.*.num_train, choose easier problems or a better teacher, or lower "
            f"filter.min_rows"
        )
    mixed = read_mix(params.mix, params.seed)
    metrics["mixed"] = {path: len(rows) for path, rows in mixed.items()}
    metrics["num_rows"] = len(kept) + sum(metrics["mixed"].values())
    write_jsonl(out / "train.jsonl", chain(kept, *mixed.values()))
    write_jsonl(out / "rejects.jsonl", rejects)
    write_jsonl(out / "prompts.jsonl", (row for row in problems.values() if row["id"] in in_band))
    write_card(out / "README.md", metrics)
    return {"filter": metrics}


def check_answers(problems: Iterable[Row], unverified_tasks: Sequence[str]) -> None:
    """Checks that each problem has an answer, or is of a task that may have none.

    Raises:
        ValueError: one has none, or there is no such task.
    """
    tasks = set()
    for row in problems:
        tasks.add(row["task"])
        if not row["answer"] and row["task"] not in unverified_tasks:
            raise ValueError(
                f"the problem {row['id']!r} has no answer to verify its traces by: name "
                f"{row['task']!r} in filter.unverified_tasks to judge them by their text alone, or "
                f"drop it from the problems (programs are not run here)"
            )
    for name in unverified_tasks:
        if name not in tasks:
            raise ValueError(
                f"filter.unverified_tasks: no problem is of task {name!r}; there are "
                f"{', '.join(sorted(tasks))}"
            )


def _make_row(problem: Row, trace: Row) -> Row:
    """Returns a row as TRL takes it; the worked examples of the sampling are not part of it."""
    completion = [{"role": "assistant", "content": trace["response"].strip()}]
    return {**problem, "sample": trace["sample"], "completion": completion}


def _make_reject(trace: Row, reason: str) -> Row:
    return {
        "id": trace["id"],
        "sample": trace["sample"],
        "reason": reason,
        "response": trace["response"],
    }


def measure(
    verdicts: Sequence[Sequence[str | None]], num_kept: int, rejects: Sequence[Row]
) -> dict[str, Any]:
    """Returns pass rates and counts.

    A trace that is right and unreadable passes: the rates are the model's. pass_rate_stderr is the
    standard error of the mean over problems: the samples of one problem are no independent
    observations. pass_at_k: the share of problems with at least one right sample. The rates are
    None if no problem has an answer.

    Args:
        verdicts: for each problem with an answer, for each sample, what `judge` said.
        num_kept: traces that are kept, also of problems without an answer.
        rejects: the others.
    """
    rates = [fmean(map(is_solved, reasons)) for reasons in verdicts]
    formatted = [
        fmean(is_solved(reason) or reason == "wrong_answer" for reason in reasons)
        for reasons in verdicts
    ]
    counts = Counter(row["reason"] for row in rejects)
    return {
        "num_generated": num_kept + len(rejects),
        "num_kept": num_kept,
        "num_prompts_verified": len(verdicts),
        "pass_rate": fmean(rates) if rates else None,
        "pass_rate_stderr": stdev(rates) / len(rates) ** 0.5 if len(rates) > 1 else None,
        "pass_at_k": fmean(rate > 0 for rate in rates) if rates else None,
        "format_rate": fmean(formatted) if formatted else None,
        "rejects": {reason: counts[reason] for reason in REASONS},
    }
