"""Keeps the verified traces of the training problems, as data for `sft`."""

from __future__ import annotations

from collections import Counter
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import read_jsonl, write_jsonl
from stages.filter.card import write_card
from stages.filter.select import REASONS, group, judge, select

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stages.filter.params import FilterInputs, FilterParams

Row = dict[str, Any]


def run(params: FilterParams, inputs: FilterInputs, out: Path, work: Path) -> dict[str, Any]:
    """Writes train.jsonl, rejects.jsonl and a data set card into `out`; returns rates and counts.

    Every trace is in exactly one of the two files.

    Raises:
        ValueError: the traces do not belong to the problems, or too few are kept.
    """
    del work
    problems = {row["id"]: row for row in read_jsonl(inputs.prompts)}
    traces = [
        row for path in sorted(inputs.generations.glob("*.jsonl")) for row in read_jsonl(path)
    ]
    kept: list[Row] = []
    rejects: list[Row] = []
    verdicts: list[list[str | None]] = []
    for name, samples in group(traces, problems).items():
        reasons = [judge(row, problems[name]["answer"]) for row in samples]
        verdicts.append(reasons)
        for row, reason in zip(samples, select(samples, reasons, params), strict=True):
            if reason is None:
                kept.append(_make_row(problems[name], row))
            else:
                rejects.append(_make_reject(row, reason))
    metrics = measure(verdicts, len(kept), rejects)
    metrics["num_prompts_kept"] = len({row["id"] for row in kept})
    if len(kept) < params.min_rows:
        raise ValueError(
            f"only {len(kept)} traces are left, fewer than filter.min_rows = {params.min_rows} "
            f"(rejected: {metrics['rejects']}): sample more with generate.num_samples or "
            f"prompts.sources.*.num_train, choose easier problems or a better teacher, or lower "
            f"filter.min_rows"
        )
    write_jsonl(out / "train.jsonl", kept)
    write_jsonl(out / "rejects.jsonl", rejects)
    write_card(out / "README.md", metrics)
    return {"filter": metrics}


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

    pass_rate_stderr is the standard error of the mean over problems: the samples of one problem are
    no independent observations. pass_at_k: the share of problems with at least one right sample.

    Args:
        verdicts: for each problem, for each sample, why it is no good (None: it is right).
    """
    rates = [fmean(reason is None for reason in reasons) for reasons in verdicts]
    formatted = [
        fmean(reason in (None, "wrong_answer") for reason in reasons) for reasons in verdicts
    ]
    counts = Counter(row["reason"] for row in rejects)
    return {
        "num_generated": num_kept + len(rejects),
        "num_kept": num_kept,
        "num_prompts": len(verdicts),
        "pass_rate": fmean(rates),
        "pass_rate_stderr": stdev(rates) / len(rates) ** 0.5 if len(rates) > 1 else None,
        "pass_at_k": fmean(rate > 0 for rate in rates),
        "format_rate": fmean(formatted),
        "rejects": {reason: counts[reason] for reason in REASONS},
    }
