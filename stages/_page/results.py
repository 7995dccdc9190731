"""The tables of results: accuracies with intervals, paired differences, and other seeds."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, Any

from scipy.stats import t as student

from stages._audit.published import list_reports, read_json
from stages._contract.params import load
from stages._contract.places import TRACKS, below
from stages._page.graph import CORE
from stages.report.table import _rows, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stages._contract.places import Cell
    from stages.report.params import ReportParams


@dataclass(frozen=True, slots=True)
class Seeds:
    """A value with each recorded seed, and over them the mean and its standard error."""

    values: Sequence[tuple[int, float]]

    @property
    def mean(self) -> float:
        """Returns the mean over seeds."""
        return fmean(value for _, value in self.values)

    @property
    def stderr(self) -> float:
        """Returns the standard error of the mean; there are two seeds at least."""
        return float(stdev(value for _, value in self.values) / len(self.values) ** 0.5)

    def find_interval(self, confidence: float) -> tuple[float, float]:
        """Returns Student's interval of the mean, over seeds."""
        half = float(student.ppf(0.5 + confidence / 2, len(self.values) - 1)) * self.stderr
        return self.mean - half, self.mean + half


@dataclass(frozen=True, slots=True)
class Score:
    """A model's accuracy on a task, in [0, 1], with a normal interval."""

    model: str
    value: float
    stderr: float
    low: float
    high: float
    mean_tokens: float
    seeds: Seeds | None


@dataclass(frozen=True, slots=True)
class Pair:
    """How much better the second model is than the first, as a share of the same problems."""

    first: str
    second: str
    difference: float
    stderr: float
    low: float
    high: float
    num_gained: int
    num_lost: int
    seeds: Seeds | None

    @property
    def verdict(self) -> str:
        """Returns what the interval over problems says, for this seed alone."""
        return _judge(self.low, self.high)

    def judge_seeds(self, confidence: float) -> str | None:
        """Returns what the interval over seeds says; None: there is one seed only."""
        return _judge(*self.seeds.find_interval(confidence)) if self.seeds else None


def _judge(low: float, high: float) -> str:
    if low > 0:
        return "better"
    return "worse" if high < 0 else "no evidence"


@dataclass(frozen=True, slots=True)
class Task:
    """What the models do on one task."""

    name: str
    num_problems: int
    num_samples: int
    scores: list[Score]
    rows: list[tuple[str, list[str]]]  # other shares, in percent, by model
    pairs: list[Pair]


@dataclass(frozen=True, slots=True)
class Table:
    """One report's results; without tasks it is not recorded."""

    graph: str
    section: str
    folder: Path
    params: ReportParams
    seed: int
    seeds: list[int]
    tasks: list[Task]

    @property
    def command(self) -> str:
        """Returns what makes it."""
        if self.graph == CORE:
            return "dvc repro"
        return f"dvc repro {TRACKS}/{self.graph}/dvc.yaml:{self.section}"


def read_tables(root: Path) -> list[Table]:
    """Returns the core's table, and those of the tracks that report."""
    return [
        _read_table(root, cell.get("track", CORE), cell.get("section", "report"), cell, found)
        for cell, found in list_reports(root)
    ]


def _read_table(root: Path, graph: str, section: str, cell: Cell, params: ReportParams) -> Table:
    folder = below("metrics", cell)
    seed: int = load(root / "params.yaml", "grpo").seed
    if not (root / folder / "paired.json").is_file():
        return Table(graph, section, folder, params, seed, [], [])
    paired = read_json(root / folder / "paired.json")
    cells = {m: read_json(root / folder / "evaluate" / f"{m}.json") for m in params.models}
    own = {task: {m: cells[m][task]["accuracy"] for m in cells} for task in paired}
    others = [read_json(path) for path in (root / folder / "seeds").glob("*.json")]
    runs = {run["seed"]: run["accuracy"] for run in others} | {seed: own}
    tasks = [_read_task(task, cells, paired[task], params, runs) for task in paired]
    return Table(graph, section, folder, params, seed, sorted(runs), tasks)


def _read_task(
    task: str,
    cells: Mapping[str, Any],
    paired: Mapping[str, Any],
    params: ReportParams,
    runs: Mapping[int, Any],
) -> Task:
    z = NormalDist().inv_cdf(0.5 + params.confidence / 2)
    scores, pairs = [], []
    for model, found in cells.items():
        cell = found[task]
        value, stderr = cell["accuracy"], cell["accuracy_stderr"] or 0.0
        low, high = max(0.0, value - z * stderr), min(1.0, value + z * stderr)
        seeds = read_seeds(runs, task, model)
        scores.append(Score(model, value, stderr, low, high, cell["mean_tokens"], seeds))
    for first, second in params.pairs:
        found = paired[f"{second}_minus_{first}"]
        pairs.append(
            Pair(
                first=first,
                second=second,
                difference=found["difference"],
                stderr=found["stderr"],
                low=found["ci_low"],
                high=found["ci_high"],
                num_gained=found["num_gained"],
                num_lost=found["num_lost"],
                seeds=read_seeds(runs, task, second, first),
            )
        )
    first_cell = next(iter(cells.values()))[task]
    rows = [
        (label, [percent(c[task][key], c[task].get(f"{key}_stderr")) for c in cells.values()])
        for key, label in _rows(first_cell).items()
    ]
    counts = first_cell["num_problems"], first_cell["num_samples"]
    return Task(task, *counts, scores=scores, rows=rows, pairs=pairs)


def read_seeds(
    runs: Mapping[int, Any], task: str, model: str, less: str | None = None
) -> Seeds | None:
    """Returns a model's accuracy with each seed, less another's; None if there is one run only.

    Args:
        runs: accuracies in [0, 1] by seed, task and model.
        task: which one.
        model: which one.
        less: the model whose accuracy is subtracted.
    """
    values = []
    for seed, accuracy in sorted(runs.items()):
        found = accuracy.get(task, {})
        if model in found and (less is None or less in found):
            values.append((seed, found[model] - (found[less] if less else 0.0)))
    return Seeds(values) if len(values) > 1 else None
