"""Training curves: each training stage's log, with the band of the runs with other seeds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages._audit.published import read_json
from stages._live.reference import TRAINED, Row, as_figures, read_curve, seeds_of
from stages._page.charts import Chart, Series, draw_lines, show
from stages._page.graph import CORE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stages._page.graph import Graph, Stage
    from stages._page.results import Table

# By column of the logs, the chart's title; the others are rewards by component, or have their name.
_TITLES = {
    "reward": "Mean reward, weighted",
    "loss": "Loss",
    "accuracy": "Pairs in the right order, share",
    "mean_token_accuracy": "Tokens predicted, share",
    "kl": "KL from the first model, nats",
    "completion_length": "Mean completion, tokens",
    "truncated_rate": "Completions cut off, share",
    "zero_std_rate": "Groups without a difference, share",
    "reward_std": "Spread of rewards in a group",
    "entropy": "Entropy, nats",
    "grad_norm": "Norm of the gradient",
    "learning_rate": "Learning rate",
}
_COMPONENTS = "Mean rewards by component"
_UNSCORABLE = "unscorable/"


@dataclass(frozen=True, slots=True)
class Curves:
    """A training stage's charts, and its log as a table."""

    graph: str
    stage: str
    kind: str
    seeds: list[int]  # of the band
    source: str
    charts: list[Chart]
    columns: list[str]
    rows: list[list[str]]


def read_curves(
    root: Path, graph: Graph, tables: Sequence[Table]
) -> tuple[list[Curves], list[str]]:
    """Returns the curves of the training stages, and the addresses of those without a log here."""
    logs = find_logs(root, graph, tables)
    found = [
        _make_curves(
            stage,
            path.relative_to(root).as_posix(),
            read_curve(path),
            _read_seeds(root, graph, stage),
        )
        for stage in graph.stages.values()
        if (path := logs.get(stage.address))
    ]
    training = [s.address for s in graph.stages.values() if s.kind in TRAINED]
    return found, [address for address in training if address not in logs]


def find_logs(root: Path, graph: Graph, tables: Sequence[Table]) -> dict[str, Path]:
    """Returns by address the logs that are here: a report's copy, which is in git, or the output's.

    The copy is of the run that was reported, and so are the tables of results.
    """
    csvs = {
        log: table.folder / "report" / f"{name}.csv"
        for table in tables
        for name, log in table.params.logs.items()
    }
    logs: dict[str, Path] = {}
    for stage in graph.stages.values():
        if stage.kind in TRAINED:
            log = f"{stage.outs[0].path}/log.jsonl"
            paths = [root / path for path in (csvs.get(log), log) if path]
            path = next((path for path in paths if path.is_file()), None)
            if path:
                logs[stage.address] = path
    return logs


def _read_seeds(root: Path, graph: Graph, stage: Stage) -> dict[int, list[Row]]:
    """Returns by seed the logs of recorded runs: those in git, or what DVC's cache has."""
    is_core = stage.graph == CORE
    name = stage.name if is_core else f"{stage.graph}/{stage.name}"
    logs = {}
    for path in sorted((root / seeds_of(is_core=is_core)).glob("*.json")):
        run = read_json(path)
        kept = path.with_suffix("") / f"{stage.run}.jsonl"
        digest = run["outs"].get(name)
        if kept.is_file():
            logs[int(run["seed"])] = read_curve(kept)
        elif digest and (log := find_in_cache(graph.cache, digest, "log.jsonl")):
            logs[int(run["seed"])] = [as_figures(json.loads(line)) for line in log.splitlines()]
    return logs


def find_in_cache(cache: Path, digest: str, name: str) -> str | None:
    """Returns a file's text out of a folder in DVC's cache, or None if the cache lacks it.

    Args:
        cache: DVC's folder of files by their md5.
        digest: the folder's, as in dvc.lock, with `.dir` at its end.
        name: the file's path in it.
    """
    listing = cache / digest[:2] / digest[2:]
    if not listing.is_file():
        return None
    files = {entry["relpath"]: entry["md5"] for entry in read_json(listing)}
    path = cache / files[name][:2] / files[name][2:] if name in files else None
    return path.read_text("utf-8") if path and path.is_file() else None


def _make_curves(
    stage: Stage, source: str, rows: Sequence[Row], seeds: Mapping[int, Sequence[Row]]
) -> Curves:
    columns = sorted({key for row in rows for key in row} - {"step"})  # the first row may lack one
    groups = {title: [key] for key, title in _TITLES.items() if key in columns}
    others = [key for key in columns if key not in _TITLES]
    rewards = [key for key in others if not key.startswith(_UNSCORABLE)]
    if rewards:
        groups = {_COMPONENTS: rewards} | groups
    unscorable = [key for key in others if key not in rewards and any(row.get(key) for row in rows)]
    if unscorable:
        groups["Completions without a verdict, share"] = unscorable
    if "reward" in columns:  # what is learnt from comes first
        groups = {_TITLES["reward"]: ["reward"]} | groups
    charts = [
        draw_lines(title, [_make_series(key, rows, seeds) for key in keys])
        for title, keys in groups.items()
    ]
    return Curves(
        graph=stage.graph,
        stage=stage.name,
        kind=stage.kind,
        seeds=sorted(seeds),
        source=source,
        charts=[chart for chart in charts if chart],
        columns=["step", *columns],
        rows=[
            [f"{row['step']:g}", *(show(row[key]) if key in row else "–" for key in columns)]
            for row in rows
        ],
    )


def _make_series(column: str, rows: Sequence[Row], seeds: Mapping[int, Sequence[Row]]) -> Series:
    points = [(row["step"], row[column]) for row in rows if column in row]
    by_step: dict[float, list[float]] = {}
    for log in seeds.values():
        for row in log:
            if column in row:
                by_step.setdefault(row["step"], []).append(row[column])
    band = [
        (step, min(value, *by_step[step]), max(value, *by_step[step]))
        for step, value in points
        if step in by_step
    ]
    return Series(column, points, band)
