"""What the recorded runs took: time, memory, tokens per second, and an estimate of the energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages._audit.published import read_json
from stages._live.reference import read_curve
from stages._page.graph import CORE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stages._page.graph import Graph, Stage

# Lannelongue, Grealey, Inouye: Green Algorithms (doi:10.1002/advs.202100707): what version 2.2 of
# its calculator takes for a core of an unknown CPU, and for memory.
CORE_W, MEMORY_W_PER_GB = 12.0, 0.3725


@dataclass(frozen=True, slots=True)
class Cost:
    """What one stage's run took; None where it is not known."""

    graph: str
    stage: str
    duration_s: float
    num_threads: int | None
    peak_memory_bytes: int
    num_tokens: float | None  # that a model wrote
    energy_wh: float | None  # estimated
    num_bytes: int  # of its outputs

    @property
    def core_hours(self) -> float | None:
        """Returns the most CPU time that it can have had; measured is the wall time alone."""
        return self.num_threads and self.num_threads * self.duration_s / 3600

    @property
    def tokens_per_s(self) -> float | None:
        """Returns the tokens written per second of the whole stage, loading included."""
        return self.num_tokens and self.num_tokens / self.duration_s


@dataclass(frozen=True, slots=True)
class Total:
    """The stages of one graph together."""

    graph: str
    costs: list[Cost]

    @property
    def duration_s(self) -> float:
        """Returns the sum: the stages ran one after the other, or could have."""
        return sum(cost.duration_s for cost in self.costs)

    @property
    def core_hours(self) -> float:
        """Returns the sum of what is known."""
        return sum(cost.core_hours or 0.0 for cost in self.costs)

    @property
    def peak_memory_bytes(self) -> int:
        """Returns the largest stage's."""
        return max(cost.peak_memory_bytes for cost in self.costs)

    @property
    def energy_wh(self) -> float:
        """Returns the sum of the estimates."""
        return sum(cost.energy_wh or 0.0 for cost in self.costs)


def read_costs(root: Path, graph: Graph, logs: Mapping[str, Path]) -> list[Total]:
    """Returns the costs of the graphs that have run, each stage in the order of the work.

    Args:
        root: the repository's folder.
        graph: its stages.
        logs: of training stages, by address.
    """
    costs = [
        _read_cost(root, stage, logs.get(stage.address))
        for stage in graph.stages.values()
        if stage.manifest
    ]
    totals = [Total(name, [c for c in costs if c.graph == name]) for name in graph.names]
    return [total for total in totals if total.costs]


def _read_cost(root: Path, stage: Stage, log: Path | None) -> Cost:
    run = stage.manifest or {}
    threads = run["machine"]["num_threads"]
    num_threads = int(threads) if threads else None
    return Cost(
        graph=stage.graph,
        stage=stage.name,
        duration_s=run["duration_s"],
        num_threads=num_threads,
        peak_memory_bytes=run["peak_memory_bytes"],
        num_tokens=_count_tokens(root, stage, log),
        energy_wh=estimate_energy(run["duration_s"], num_threads, run["peak_memory_bytes"]),
        num_bytes=sum(out.num_bytes or 0 for out in stage.outs),
    )


def estimate_energy(seconds: float, num_threads: int | None, num_bytes: int) -> float | None:
    """Returns an estimate in watt-hours: nothing here is measured, and no GPU is counted.

    Every thread counts as a busy core, and the memory at its peak the whole time.
    """
    if num_threads is None:
        return None
    return seconds / 3600 * (num_threads * CORE_W + num_bytes / 1e9 * MEMORY_W_PER_GB)


def _count_tokens(root: Path, stage: Stage, log: Path | None) -> float | None:
    facts: dict[str, Any] = (stage.manifest or {})["facts"]
    if "num_generated_tokens" in facts:
        return float(facts["num_generated_tokens"])
    metrics = _read_metrics(root, stage)
    if stage.kind == "generate":
        return metrics.get("num_tokens")
    if stage.kind == "grpo" and log and "num_completions" in metrics:
        per_step = metrics["num_completions"] / metrics["num_steps"]
        per_step *= 1 + (metrics.get("resampled_rate") or 0.0)  # by dynamic sampling
        rows = read_curve(log)
        lengths = [row["completion_length"] for row in rows if "completion_length" in row]
        if len(rows) == len(lengths) == metrics["num_steps"]:
            return float(per_step * sum(lengths))
    return None


def _read_metrics(root: Path, stage: Stage) -> dict[str, Any]:
    for out in stage.outs:
        if out.path.endswith(".json") and (root / out.path).is_file():
            return dict(read_json(root / out.path))
    return {}


def name_graph(graph: str) -> str:
    """Returns the graph's name in a heading."""
    return "Core recipe" if graph == CORE else f"Track {graph}"
