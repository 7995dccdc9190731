"""Decides for every trace whether it is kept, and if not, why."""

from __future__ import annotations

from statistics import mode
from typing import TYPE_CHECKING, Any

from stages._contract.seeding import derive
from stages.filter.thought import (
    find_splitter,
    has_code_block,
    measure_language,
    measure_paragraph,
    measure_repetition,
    split_thought,
)
from stages.filter.verify import is_equal, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stages.filter.params import FilterParams, ThoughtParams

Row = dict[str, Any]

# In the order in which they are looked for; a trace gets the first that applies.
REASONS = (
    "truncated",
    "bad_format",
    "wrong_answer",
    "mixed_language",
    "repetition",
    "long_paragraph",
    "code_block",
    "pass_rate_low",
    "pass_rate_high",
    "duplicate",
    "over_cap",
)
# Of these, a trace's that is right, and not to be imitated for all that: its problem is solved.
UNREADABLE = frozenset({"mixed_language", "repetition", "long_paragraph", "code_block"})


def group(
    rows: Sequence[Row], problems: Mapping[str, Row], generations: Path
) -> dict[str, list[Row]]:
    """Returns the traces by problem id, each problem's ordered by sample.

    Args:
        rows: the traces.
        problems: by id.
        generations: the folder of the traces, for messages.

    Raises:
        ValueError: a trace belongs to no problem, or a problem lacks a sample or has one twice.
    """
    remedy = (
        "let filter.generations and filter.prompts name the traces and the problems of one "
        "generate, or run `dvc repro` on the stage that writes the traces"
    )
    groups: dict[str, list[Row]] = {name: [] for name in sorted(problems)}
    for row in rows:
        if row["id"] not in groups:
            raise ValueError(
                f"{generations} has a trace for {row['id']!r}, which is not among the problems: "
                f"{remedy}"
            )
        groups[row["id"]].append(row)
    missing = [name for name, samples in groups.items() if not samples]
    if missing:
        raise ValueError(
            f"{generations} has no trace of {len(missing)} of the {len(groups)} problems of "
            f"filter.prompts, such as {missing[0]}: {remedy}"
        )
    num_samples = mode(map(len, groups.values()))
    for name, samples in groups.items():
        samples.sort(key=lambda row: int(row["sample"]))
        if [row["sample"] for row in samples] != list(range(num_samples)):
            raise ValueError(
                f"{generations} has samples {[row['sample'] for row in samples]} of {name}, not 0 "
                f"to {num_samples - 1}: {remedy}"
            )
    return groups


def judge(row: Row, gold: str | None, params: FilterParams) -> str | None:
    """Returns why the trace itself is no good, or None if it is right and readable.

    Without a reference answer, format and thought alone are judged: R1's data without reasoning,
    whose simple queries have no thought (B.3.3).

    Raises:
        ValueError: the reference answer cannot be parsed.
    """
    if row["finish_reason"] != "stop":
        return "truncated"
    if not gold:
        parts = split_thought(row["response"])
        return "bad_format" if parts is None else find_unreadable(parts[0], params.thought)
    response = parse(row["response"])
    if response is None:
        return "bad_format"
    if not is_equal(response.answer, gold):
        return "wrong_answer"
    return find_unreadable(response.think, params.thought)


def find_unreadable(thought: str, params: ThoughtParams) -> str | None:
    """Returns why the chain of thought is not to be imitated, or None.

    Source: DeepSeek-R1, B.3 (repetition, mixed languages) and B.3.3 (mixed languages, long
    paragraphs and code blocks). A thought without words is in no language, and thus not mixed.
    """
    if params.min_language_consistency is not None:
        share = measure_language(thought, params.language)
        if share is not None and share < params.min_language_consistency:
            return "mixed_language"
    if params.max_repetition is not None:
        words = find_splitter(params.language)(thought)
        if measure_repetition(words, params.repetition_n_grams) > params.max_repetition:
            return "repetition"
    longest = params.max_paragraph_chars
    if longest is not None and measure_paragraph(thought) > longest:
        return "long_paragraph"
    return "code_block" if params.reject_code_blocks and has_code_block(thought) else None


def is_solved(reason: str | None) -> bool:
    """Returns whether a trace of which `judge` said this has the right answer."""
    return reason is None or reason in UNREADABLE


def find_out_of_band(reasons: Sequence[str | None], params: FilterParams) -> str | None:
    """Returns why a problem with an answer is too hard or too easy, or None if it is neither.

    Args:
        reasons: what `judge` said about each of its traces.
    """
    pass_rate = sum(map(is_solved, reasons)) / len(reasons)
    if pass_rate < params.min_pass_rate:
        return "pass_rate_low"
    return "pass_rate_high" if pass_rate > params.max_pass_rate else None


def select(
    samples: Sequence[Row],
    reasons: Sequence[str | None],
    params: FilterParams,
    out_of_band: str | None,
) -> list[str | None]:
    """Returns for each sample of one problem why it is rejected; None for those that are kept.

    Args:
        samples: the problem's traces, ordered by sample.
        reasons: what `judge` said about each.
        out_of_band: why none of them is kept, if so.
    """
    final = list(reasons)
    right = [index for index, reason in enumerate(reasons) if reason is None]
    if out_of_band:
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
    parts = split_thought(response)
    assert parts is not None, "right traces are in one of the formats"
    thought, reply = parts
    return (*thought.split(), "", *reply.split())


def _rank(row: Row, params: FilterParams) -> tuple[int, int]:
    if params.order == "shortest":
        return row["num_tokens"], row["sample"]
    return derive(params.seed, "filter", row["id"], row["sample"]), row["sample"]
