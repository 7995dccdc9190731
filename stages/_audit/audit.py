"""The second level of an audit: is a run that was made again the one that is recorded?

L1: the same bytes. L2, where the bytes differ: equivalent accuracies over seeds. The core graph and
the tracks are judged apart, each if it has run again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stages._audit.bisect import find_changed_inputs, find_first_difference, open_run
from stages._audit.equivalence import ALPHA, MARGIN, Equivalence, compare_means
from stages._audit.git import read_at
from stages._audit.locks import LOCK
from stages._audit.published import is_made
from stages._audit.seeds import ALL_TRACKS, CORE, Graph, read_seeds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from stages._audit.bisect import Run

_NOT_RUN = {
    CORE: "The core graph has not run again there, and is not judged.",
    ALL_TRACKS: "The tracks have not run again there, and are not judged.",
}


def audit(root: Path, rebuilt: Path) -> tuple[bool, str]:
    """Returns whether the rebuilt run is the recorded one, at either level, and the page on it.

    Args:
        root: the repository, with the recorded run.
        rebuilt: a clone of it in which the recipe was run again, and nothing committed: what is
            there beside its commit's manifests and seeds has run on that machine.

    Raises:
        ValueError: it is no such clone, nothing has run there, or another recipe has.
    """
    if not (rebuilt / LOCK).is_file():
        raise ValueError(
            f"{rebuilt} is no folder with a {LOCK}: name the clone in which the recipe ran again"
        )
    recorded, again = open_run(root, str(root)), open_run(root, str(rebuilt))
    ran = {stage for stage in again.lock if _has_run(rebuilt, again, stage)}
    if not ran:
        raise ValueError(
            f"{again.name} has the manifests of its commit: nothing has run there. Run `dvc repro "
            f"--force` there, and commit nothing before the audit"
        )
    lines = ["| stage | recorded | rebuilt | |", "|---|---|---|---|"]
    verdicts, pages = [], []
    for graph in (CORE, ALL_TRACKS):
        old, new = (run.keep(graph) for run in (recorded, again))
        if ran.isdisjoint(new.lock):
            if old.lock:
                pages.append(_NOT_RUN[graph])
            continue
        _check_same_recipe(old, new, recorded)
        lines += _render_stages(old, new, ran)
        seeds = _read_seeds(root, graph), _read_rebuilt_seeds(rebuilt, graph)
        holds, page = _judge(graph, (old, new), seeds, ran)
        verdicts.append(holds)
        pages.append(page)
    return all(verdicts), "\n".join([*lines, "", "\n\n".join(pages), ""])


def _has_run(rebuilt: Path, again: Run, stage: str) -> bool:
    """Returns whether the stage has run in the clone; its commit has the recorded run's manifest.

    A manifest says when the stage ran.
    """
    path = f"runs/{again.name_of(stage)}.json"
    return again.read(path) not in (None, read_at(rebuilt, "HEAD", path))


def _render_stages(recorded: Run, again: Run, ran: Collection[str]) -> Iterator[str]:
    for stage, entry in recorded.lock.items():
        old, new = _digest(entry), _digest(again.lock[stage])
        word = "**other**" if old != new else "same" if stage in ran else "not run again"
        yield f"| {stage} | {old} | {new} | {word} |"


def _judge(
    graph: Graph,
    runs: tuple[Run, Run],
    seeds: tuple[list[dict[str, Any]], list[dict[str, Any]]],
    ran: Collection[str],
) -> tuple[bool, str]:
    """Returns whether the graph's run is the recorded one, at either level, and the page on it."""
    same = _compare_bytes(*seeds)
    words = {True: "the same bytes", False: "**other bytes**"}
    lines = [f"Seed {seed}: {words[found]}." for seed, found in same.items()]
    of = "" if graph is CORE else " for the tracks"
    difference = find_first_difference(*runs)
    if difference is None and all(same.values()):
        stages = runs[0].lock
        others = [stage for stage in stages if stage not in ran]
        which = f"the outputs of all {len(stages)} stages have the same bytes"
        if others:
            which = (
                f"of {len(stages)} stages {len(stages) - len(others)} ran again, and their outputs "
                f"have the same bytes; not run again: {', '.join(others)}"
            )
        lines.append(f"L1 holds{of}: {which}.")
        return True, "\n".join(lines)
    lines.append(f"L1 does not hold{of}. The first difference:")
    lines += ["", str(difference or "another seed's"), ""]
    if len(seeds[0]) < 2:  # noqa: PLR2004 - a variance needs them
        lines.append(
            f"L2 needs recorded runs with other seeds in {graph.folder}, and there are none: see "
            f"`python -m stages seeds`."
        )
        return False, "\n".join(lines)
    cells = _compare_seeds(*seeds)
    holds = all(cell.word == "equivalent" for _, _, cell in cells)
    return holds, "\n".join([*lines, *_render(cells, holds=holds)])


def _check_same_recipe(recorded: Run, again: Run, whole: Run) -> None:
    """Refuses another recipe, whose results may differ for good reasons.

    Args:
        recorded: a graph's stages.
        again: the same graph's of the rebuilt run.
        whole: the recorded run with all graphs, since one reads what another makes.
    """
    made = {out["path"] for entry in whole.lock.values() for out in entry["outs"]}
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


def _read_seeds(root: Path, graph: Graph) -> list[dict[str, Any]]:
    """Returns the runs by seed; none where a track has run and not the one with all results."""
    has_results = (root / "runs" / f"{graph.run}.json").is_file()
    return read_seeds(root, graph) if has_results else []


def _read_rebuilt_seeds(rebuilt: Path, graph: Graph) -> list[dict[str, Any]]:
    """Returns the clone's runs by seed, without the recorded ones, which came with its commit.

    No run's record can be in the commit that it ran at, since it names that commit.
    """
    runs = _read_seeds(rebuilt, graph)
    texts = (read_at(rebuilt, "HEAD", f"{graph.folder}/{run['seed']}.json") for run in runs[1:])
    pairs = zip(runs[1:], texts, strict=True)
    return [*runs[:1], *(run for run, text in pairs if text is None or json.loads(text) != run)]


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
