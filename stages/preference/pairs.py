"""Pairs of responses: read, split by prompt, and what is measured on those that are held out."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import read_jsonl
from stages._contract.seeding import derive

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


Row = dict[str, Any]
_TEXTS = ("prompt", "chosen", "rejected")
_EVEN = 0.5  # what a tie counts: as much as guessing


def load_pairs(path: Path, kinds: Sequence[str]) -> list[Row]:
    """Returns the pairs of these kinds (none named: of all), each with its `line` in the file.

    Args:
        path: JSON Lines of prompt, chosen and rejected, all texts, and perhaps a kind, a text.
        kinds: those that are kept.

    Raises:
        ValueError: a pair is incomplete or its responses are the same, or a kind has no pairs.
    """
    pairs = []
    for line, row in enumerate(read_jsonl(path), start=1):
        for name in _TEXTS:
            if not isinstance(row.get(name), str) or not row[name].strip():
                raise ValueError(f"{path}:{line} must have a text {name!r}, not {row.get(name)!r}")
        if row["chosen"] == row["rejected"]:
            raise ValueError(f"{path}:{line}: chosen and rejected are the same: drop the pair")
        kind = row.get("kind")
        if kind is not None and not isinstance(kind, str):
            raise ValueError(f"{path}:{line}: kind must be a text or missing, not {kind!r}")
        pairs.append({"line": line, "kind": kind, **{name: row[name] for name in _TEXTS}})
    for kind in kinds:
        if all(pair["kind"] != kind for pair in pairs):
            known = sorted({pair["kind"] for pair in pairs if pair["kind"] is not None})
            raise ValueError(
                f"preference.kinds has {kind!r}, of which {path} has no pair: it has "
                f"{', '.join(known) or 'none'}"
            )
    return [pair for pair in pairs if not kinds or pair["kind"] in kinds]


def split_pairs(pairs: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Returns the pairs to train on and those that are held out, each in the order of the file.

    All pairs of a prompt are on one side. Which prompts are held out depends on the seed and the
    prompts alone.

    Raises:
        ValueError: one side would be empty.
    """
    prompts = {pair["prompt"] for pair in pairs}
    order = sorted(prompts, key=lambda prompt: (derive(seed, "preference", prompt), prompt))
    held_out = set(order[: round(share * len(order))])
    sides = (
        [pair for pair in pairs if pair["prompt"] not in held_out],
        [pair for pair in pairs if pair["prompt"] in held_out],
    )
    if not all(sides):
        raise ValueError(
            f"preference.held_out_share is {share}, which of {len(order)} prompts holds out "
            f"{len(held_out)}: both sides need one; change it, or give more pairs"
        )
    return sides


def to_conversation(pair: Row, system_prompt: str | None) -> Row:
    """Returns the pair as TRL takes conversations, so that the model's chat template is used."""
    prompt = [{"role": "user", "content": pair["prompt"]}]
    if system_prompt is not None:
        prompt.insert(0, {"role": "system", "content": system_prompt})
    return {
        "line": pair["line"],
        "kind": pair["kind"],
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": pair["chosen"]}],
        "rejected": [{"role": "assistant", "content": pair["rejected"]}],
    }


def measure(rows: Sequence[Row]) -> Row:
    """Returns the accuracy in [0, 1] with its standard error, of all pairs and by kind.

    `longer_is_chosen` is what the rule "the longer response is the better one" gets of them.

    Args:
        rows: per pair `kind`, `margin` (chosen less rejected, of the model) and `num_more_tokens`
            (the same of the lengths).
    """
    measured = _measure(rows)
    kinds = sorted({row["kind"] for row in rows if row["kind"] is not None})
    if kinds:
        of = {kind: [row for row in rows if row["kind"] == kind] for kind in kinds}
        measured["kinds"] = {kind: _measure(found) for kind, found in of.items()}
    return measured


def _measure(rows: Sequence[Row]) -> Row:
    verdicts = [_verdict(row["margin"]) for row in rows]
    accuracy, num = fmean(verdicts), len(verdicts)
    variance = fmean((verdict - accuracy) ** 2 for verdict in verdicts)
    return {
        "num_pairs": num,
        "accuracy": accuracy,
        # Of a mean of num independent pairs, estimated from them: None of a single one.
        "accuracy_stderr": (variance / (num - 1)) ** 0.5 if num > 1 else None,
        "longer_is_chosen": fmean(_verdict(row["num_more_tokens"]) for row in rows),
        "mean_margin": fmean(row["margin"] for row in rows),
    }


def _verdict(margin: float) -> float:
    return _EVEN if margin == 0 else float(margin > 0)
