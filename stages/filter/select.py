"""Decides for every trace whether it is kept, and if not, why."""

from __future__ import annotations

from statistics import mode
from typing import TYPE_CHECKING, Any

from stages._contract.seeding import derive
from stages.filter.verify import is_correct, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stages.filter.params import FilterParams

Row = dict[str, Any]

# In the order in which they are looked for; a trace gets the first that applies.
REASONS = (
    "truncated",
    "bad_format",
    "wrong_answer",
    "pass_rate_low",
    "pass_rate_high",
    "duplicate",
    "over_cap",
)


def group(rows: Sequence[Row], problems: Mapping[str, Row]) -> dict[str, list[Row]]:
    """Returns the traces by problem id, each problem's ordered by sample.

    Raises:
        ValueError: a trace belongs to no problem, or a problem lacks a sample or has one twice.
    """
    groups: dict[str, list[Row]] = {name: [] for name in sorted(problems)}
    for row in rows:
        if row["id"] not in groups:
            raise ValueError(
                f"artifacts/generate has a trace for {row['id']!r}, which is not among the "
                f"training problems: run `dvc repro generate`"
            )
        groups[row["id"]].append(row)
    num_samples = mode(map(len, groups.values()))
    for name, samples in groups.items():
        samples.sort(key=lambda row: int(row["sample"]))
        if [row["sample"] for row in samples] != list(range(num_samples)):
            raise ValueError(
                f"artifacts/generate has samples {[row['sample'] for row in samples]} of {name}, "
                f"not 0 to {num_samples - 1}: run `dvc repro generate`"
            )
    return groups


def judge(row: Row, gold: str) -> str | None:
    """Returns why the trace itself is no good, or None if it is right.

    Raises:
        ValueError: the reference answer cannot be parsed.
    """
    if row["finish_reason"] != "stop":
        return "truncated"
    if parse(row["response"]) is None:
        return "bad_format"
    return None if is_correct(row["response"], gold) else "wrong_answer"


def select(
    samples: Sequence[Row], reasons: Sequence[str | None], params: FilterParams
) -> list[str | None]:
    """Returns for each sample of one problem why it is rejected; None for those that are kept.

    Args:
        samples: the problem's traces, ordered by sample.
        reasons: what `judge` said about each.
    """
    pass_rate = sum(reason is None for reason in reasons) / len(reasons)
    final = list(reasons)
    right = [index for index, reason in enumerate(reasons) if reason is None]
    if pass_rate < params.min_pass_rate or pass_rate > params.max_pass_rate:
        out_of_band = "pass_rate_low" if pass_rate < params.min_pass_rate else "pass_rate_high"
        for index in right:
            final[index] = out_of_band
        return final
    seen: set[tuple[str, ...]] = set()
    num_kept = 0
    for index in sorted(right, key=lambda index: _rank(samples[index], params)):
        words = _words(samples[index]["response"])
        if words in seen:
            final[index] = "duplicate"
        elif num_kept == params.max_per_prompt:
            final[index] = "over_cap"
        else:
            num_kept += 1
        seen.add(words)
    return final


def _words(response: str) -> tuple[str, ...]:
    """Returns what makes two traces the same: their words, however they are spaced."""
    parsed = parse(response)
    assert parsed is not None, "right traces are in the format"
    return (*parsed.think.split(), "", *parsed.answer.split())


def _rank(row: Row, params: FilterParams) -> tuple[int, int]:
    if params.order == "shortest":
        return row["num_tokens"], row["sample"]
    return derive(params.seed, "filter", row["id"], row["sample"]), row["sample"]
