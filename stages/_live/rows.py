"""The figures of a run by step: which step a printed row is, and the names that log.jsonl has."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

STEPS, STATE = "steps.jsonl", "trainer_state.json"
_NAMES = {
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "truncated_rate",
    "frac_reward_zero_std": "zero_std_rate",
    "dynamic_sampling/resampled": "resampled_rate",
    "dynamic_sampling/unfilled": "unfilled_rate",
}


class Entry(NamedTuple):
    """The figures of a step, by the names of log.jsonl, and when they were seen (Unix time)."""

    step: int
    time: float
    figures: dict[str, float]


def rename(figures: Mapping[str, float], rewards: Iterable[str]) -> dict[str, float]:
    """Returns the figures by log.jsonl's names; those that it does not have keep the trainer's.

    Args:
        figures: by the trainer's names.
        rewards: the names of the functions; other rewards are reward models.
    """
    known = set(rewards)
    found = {}
    for name, figure in figures.items():
        kind, _, rest = name.partition("/")
        reward, _, what = rest.rpartition("/")
        if kind == "rewards" and what == "mean":
            found[reward if reward in known else f"reward_model/{reward}"] = figure
        elif name != "step":
            found[_NAMES.get(name, name)] = figure
    return found


class Counter:
    """Tells the steps of rows, which the trainer prints without them.

    A run goes on from the last checkpoint that it finds, so this looks for those before the trainer
    can have removed one.
    """

    def __init__(self, work: Path, logging_steps: int, num_processes: int) -> None:
        """Notes which checkpoints there are now.

        Args:
            work: of the cell, with a folder for each parameters and inputs.
            logging_steps: how many steps lie between two rows.
            num_processes: that a complete checkpoint has the random state of.
        """
        self._work, self._every = work, logging_steps
        self._left = {
            folder: _read_checkpoint(folder, num_processes)
            for folder in (work.iterdir() if work.is_dir() else ())
        }
        self._step: int | None = None
        self.earlier: list[dict[str, float]] = []  # rows that a resumed run has from before

    def next(self) -> int:
        """Returns the step of the next row."""
        if self._step is None:
            start, self.earlier = self._left.get(self._find_folder(), (0, []))
            self._step = start - start % self._every
        self._step += self._every
        return self._step

    def _find_folder(self) -> Path:
        """Returns the run's own folder: the one whose steps were written last."""
        times = {path.parent: path.stat().st_mtime_ns for path in self._work.glob(f"*/{STEPS}")}
        return max(times, key=lambda folder: times[folder], default=self._work)


def _read_checkpoint(folder: Path, num_processes: int) -> tuple[int, list[dict[str, float]]]:
    """Returns the step of the folder's last complete checkpoint, and its rows; 0 without one."""
    found: tuple[int, list[dict[str, float]]] = (0, [])
    for path in folder.glob(f"checkpoints/checkpoint-*/{STATE}"):
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            step = int(state["global_step"])
        except (OSError, ValueError, KeyError):
            continue  # half-written: the trainer removes it, too
        is_complete = len(list(path.parent.glob("rng_state*.pth"))) == num_processes
        if is_complete and step > found[0]:
            found = step, [_drop_none(row) for row in state.get("log_history", []) if "loss" in row]
    return found


def _drop_none(row: Mapping[str, float | None]) -> dict[str, float]:
    """Returns the row as it is printed: without a number where the step has no such value."""
    return {name: figure for name, figure in row.items() if figure is not None}


def write_entry(path: Path, entry: Entry) -> None:
    """Appends the step to the live log; null stands for a figure that is no finite number."""
    figures = {name: x if math.isfinite(x) else None for name, x in entry.figures.items()}
    row = {"step": entry.step, "time": round(entry.time, 2), **figures}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


class LiveLog:
    """A live log that grows: each step is read once."""

    def __init__(self, path: Path) -> None:
        """Begins at its first line."""
        self._path, self._offset = path, 0

    def read(self) -> Iterator[Entry]:
        """Yields the steps that are new; a line that is being written is left for later."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        for line in content.splitlines(keepends=True):
            if line.endswith(b"\n"):
                self._offset += len(line)
                yield _read_entry(json.loads(line))


def _read_entry(row: dict[str, Any]) -> Entry:
    step, seen = row.pop("step"), row.pop("time")
    return Entry(step, seen, {name: math.nan if x is None else x for name, x in row.items()})
