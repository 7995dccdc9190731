"""How good a recorded model is, by the metrics that are in git."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from stages._audit.git import read_at
from stages._audit.published import read_json
from stages._audit.seeds import ALL_TRACKS, CORE, read_seeds
from stages.report.table import percent

if TYPE_CHECKING:
    from pathlib import Path

    from stages._publish.record import Artifact


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """By task, what `report` says of the model, and the accuracies of each recorded seed.

    `file` is where the results are, relative to the repository; seeds are in [0, 1] by task.
    """

    file: str
    results: dict[str, dict[str, Any]]
    seeds: list[int]
    by_seed: dict[str, list[float]]

    def render_seeds(self) -> str:
        """Returns one Markdown row per task: the mean over seeds, and each seed's accuracy."""
        rows = []
        for task, numbers in self.by_seed.items():
            error = stdev(numbers) / len(numbers) ** 0.5
            each = ", ".join(f"{100 * number:.1f}" for number in numbers)
            rows.append(f"| {task} | {percent(fmean(numbers), error)} | {each} |")
        return "\n".join(rows)


def read_scores(root: Path, artifact: Artifact) -> Scores | None:
    """Returns the model's scores in the core's table or in that of the tracks, or None."""
    for graph, file, sections in (
        (CORE, "params.yaml", ("report",)),
        (ALL_TRACKS, "tracks/results/params.yaml", ("report", "report")),
    ):
        text = read_at(root, "HEAD", file)
        table: Any = YAML(typ="safe", pure=True).load(text) if text else {}
        for section in sections:
            table = table.get(section, {})
        for model, folder in table.get("models", {}).items():
            path = f"{graph.metrics}/evaluate/{model}.json"
            if folder == artifact.judged_in and read_at(root, "HEAD", path):
                results: dict[str, dict[str, Any]] = read_json(root / path)
                runs = read_seeds(root, graph)
                return Scores(
                    file=path,
                    results=results,
                    seeds=[int(run["seed"]) for run in runs],
                    by_seed={
                        task: [run["accuracy"][task][model] for run in runs] for task in results
                    },
                )
    return None
