"""The second level of an audit: is a run that was made again the one that is recorded?

L1: the same bytes. L2, where the bytes differ: equivalent accuracies over seeds.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stages._audit.bisect import find_changed_inputs, find_first_difference, open_run
from stages._audit.equivalence import ALPHA, MARGIN, Equivalence, compare_means
from stages._audit.git import read_at
from stages._audit.published import is_made
from stages._audit.seeds import CORE, read_seeds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stages._audit.bisect import Run


def audit(root: Path, rebuilt: Path) -> tuple[bool, str]:
    """Returns whether the rebuilt run is the recorded one, at either level, and the page on it.

    Args:
        root: the repository, with the recorded run.
        rebuilt: a clone of it in which the recipe was run again, and nothing committed; what its
            metrics/seeds has beside its commit's is taken for more runs on that machine.

    Raises:
        ValueError: it is no such clone, or of another recipe.
    """
    recorded, again = open_run(root, str(root)), open_run(root, str(rebuilt))
    _check_same_recipe(recorded, again)
    lines = ["| stage | recorded | rebuilt | |", "|---|---|---|---|"]
    for stage, entry in recorded.lock.items():
        old, new = _digest(entry), _digest(again.lock[stage])
        lines.append(f"| {stage} | {old} | {new} | {'same' if old == new else '**other**'} |")
    seeds = read_seeds(root), _read_rebuilt_seeds(rebuilt)
    same = _compare_bytes(*seeds)
    words = {True: "the same bytes", False: "**other bytes**"}
    lines += ["", *(f"Seed {seed}: {words[found]}." for seed, found in same.items())]
    difference = find_first_difference(recorded, again)
    if difference is None and all(same.values()):
        verdict = f"L1 holds: the outputs of all {len(recorded.lock)} stages have the same bytes."
        return True, "\n".join([*lines, verdict, ""])
    lines += [
        "L1 does not hold. The first difference:",
        "",
        str(difference or "another seed's"),
        "",
    ]
    found = _compare_seeds(*seeds)
    holds = all(cell.word == "equivalent" for _, _, cell in found)
    return holds, "\n".join([*lines, *_render(found, holds=holds), ""])


def _check_same_recipe(recorded: Run, again: Run) -> None:
    """Refuses another recipe, whose results may differ for good reasons."""
    made = {out["path"] for entry in recorded.lock.values() for out in entry["outs"]}
    if recorded.lock.keys() != again.lock.keys():
        stages = sorted(recorded.lock.keys() ^ again.lock.keys())
        raise ValueError(f"{again.name} has not run the same stages: {', '.join(stages)} differ")
    for stage, entry in recorded.lock.items():
        changed = [
            path
            for path in find_changed_inputs(entry, again.lock[stage])
            if not is_made(path, made)
        ]
        if changed:
            raise ValueError(
                f"{again.name} ran another recipe: {stage} read other {', '.join(changed)}; check "
                f"out the same commit there, and run `dvc repro --force`"
            )


def _digest(entry: dict[str, Any]) -> str:
    """Returns the digests of a stage's outputs, shortened; equal if and only if all are."""
    return " ".join(out["md5"][:12] for out in entry["outs"])


def _read_rebuilt_seeds(rebuilt: Path) -> list[dict[str, Any]]:
    """Returns the clone's runs by seed, without the recorded ones, which came with its commit.

    No run's record can be in the commit that it ran at, since it names that commit.
    """
    first, *others = read_seeds(rebuilt)
    texts = (read_at(rebuilt, "HEAD", f"{CORE.folder}/{run['seed']}.json") for run in others)
    pairs = zip(others, texts, strict=True)
    return [first, *(run for run, text in pairs if text is None or json.loads(text) != run)]


def _compare_bytes(
    recorded: list[dict[str, Any]], rebuilt: list[dict[str, Any]]
) -> dict[int, bool]:
    """Returns whether outputs have the same bytes, by other seed that both machines have run."""
    again = {run["seed"]: run["outs"] for run in rebuilt[1:]}
    both = (run for run in recorded[1:] if run["seed"] in again)
    return {run["seed"]: run["outs"] == again[run["seed"]] for run in both}


def _compare_seeds(
    recorded: list[dict[str, Any]], rebuilt: list[dict[str, Any]]
) -> list[tuple[str, str, Equivalence]]:
    if len(recorded) < 2:  # noqa: PLR2004 - a variance needs them
        raise ValueError(
            "L2 needs recorded runs with other seeds in metrics/seeds, and there are none: see "
            "`python -m stages seeds`"
        )
    return [
        (
            task,
            model,
            compare_means(
                [run["accuracy"][task][model] for run in recorded],
                [run["accuracy"][task][model] for run in rebuilt],
            ),
        )
        for task in recorded[0]["accuracy"]
        for model in recorded[0]["accuracy"][task]
    ]


def _render(found: list[tuple[str, str, Equivalence]], *, holds: bool) -> Iterator[str]:
    yield f"| task | model | recorded | rebuilt | {1 - 2 * ALPHA:.0%} interval | verdict |"
    yield "|---|---|---:|---:|---:|---|"
    for task, model, cell in found:
        interval = f"{100 * cell.low:+.1f} to {100 * cell.high:+.1f}"
        means = f"{100 * cell.recorded:.1f} | {100 * cell.rebuilt:.1f}"
        yield f"| {task} | {model} | {means} | {interval} | {cell.word} |"
    yield ""
    yield (
        f"L2 {'holds' if holds else 'does not hold'}: mean accuracies in %, over seeds; equivalent "
        f"is a difference whose interval lies within ±{100 * MARGIN:.0f}."
    )
    if not holds:
        yield "Undecided intervals get narrower with more seeds: `nox -s audit -- 1 2 3 4`."
