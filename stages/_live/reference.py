"""The curves of a recipe's recorded runs, which further runs are held against.

They lie in stages/_live/curves/RECIPE/NAME.json, with the NAME of the manifest in runs/: `sft`, or
`grpo-r1-reasoning_rl` of a track. `python -m stages reference --write` makes them from the logs of
the committed run and of those with other seeds. A file holds:

    name, recipe    of what they are
    commit          of the code that the committed run's manifest names
    seeds           of the runs, that of the committed one first
    params          the parameters that matter, by dotted name: those of this stage and of what
                    comes before it; neither seeds nor what changes only where and how fast it runs
    window          rows that are smoothed into one: band.py says how, and what the limits mean
    steps           the optimizer step of each row, up to where the shortest run ends: another seed
                    may leave another number of traces to learn from
    figures         by name: mean, lower and upper, a list each with a value per row; lower and
                    upper are null where there are fewer than three runs, or all are equal
    false_alarms    how many of the runs leave the bands of the others; null if those are too few
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from stages._contract import params as contract
from stages._contract.artifacts import read_jsonl, write_json
from stages._contract.places import TRACKS, name_of, out_of
from stages._live.band import Band, choose_window, count_false_alarms, make_band

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stages._contract.places import Cell

Row = dict[str, float]  # of a log: the step, and the figures that it has, by name
CURVES = Path("stages/_live/curves")
TRAINED = ("sft", "preference", "grpo")
_ORDER = ("fetch", "prompts", "generate", "filter", "sft", "grpo")  # of the core graph
SEEDED = ("generate", "filter", "sft", "preference", "grpo")
# They change where a stage runs, how fast, and in what portions, and what else is logged.
_FREE = {
    "cpu_isa",
    "dataset_num_proc",
    "image",
    "num_threads",
    "parallel_code_exec_per_proc",
    "save_steps",
    "shard_size",
}
# What tells most about a run; of GRPO, each reward besides.
_FIGURES = {
    "sft": ("loss", "mean_token_accuracy", "entropy", "grad_norm"),
    "preference": ("loss", "accuracy", "margin", "grad_norm"),
    "grpo": ("reward", "kl", "completion_length", "entropy"),
}
_NUM_DIGITS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """Curves that a run of a stage is held against."""

    name: str
    recipe: str
    commit: str
    seeds: list[int]
    params: dict[str, Any]
    window: int
    steps: list[int]
    figures: dict[str, Band]
    false_alarms: int | None

    @property
    def has_bands(self) -> bool:
        """Returns whether there were runs enough to say how much they vary."""
        return any(band.lower is not None for band in self.figures.values())

    def describe(self) -> str:
        """Returns what it was made from, in a few words."""
        runs = "1 run" if len(self.seeds) == 1 else f"{len(self.seeds)} runs"
        return f"{runs} of {self.recipe} at {self.commit[:7]}"


def list_cells(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields stage and cell of all that is trained, in the core graph and in the tracks."""
    yield from ((stage, {}) for stage in TRAINED if stage in _ORDER)
    for path in sorted((root / TRACKS).glob("*/params.yaml")):
        for stage, sections in contract.read_sections(path).items():
            if stage in TRAINED:
                yield from (
                    (stage, {"track": path.parent.name, "section": section}) for section in sections
                )


def path_of(root: Path, recipe: str, name: str) -> Path:
    """Returns where the curves of a recipe's cell are."""
    return root / CURVES / recipe / f"{name}.json"


def load_reference(root: Path, stage: str, cell: Cell) -> Reference | None:
    """Returns the curves for a cell of the recipe in force, or None if there are none."""
    recipe = _read_yaml(root / "params.yaml")["report"]["recipe"]
    path = path_of(root, recipe, name_of(stage, cell))
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    bands = {name: Band(**band) for name, band in found.pop("figures").items()}
    return Reference(**found, figures=bands)


def dump(reference: Reference) -> dict[str, Any]:
    """Returns the content of a reference's file."""

    def cut(values: list[float] | None) -> list[float] | None:
        return values and [float(f"{value:.{_NUM_DIGITS}g}") for value in values]

    figures = {
        name: {key: cut(values) for key, values in asdict(band).items()}
        for name, band in reference.figures.items()
    }
    return asdict(reference) | {"figures": figures}


def make_reference(root: Path, stage: str, cell: Cell) -> Reference | None:
    """Returns the curves of the recorded runs of a cell, or None if its log is not here.

    Raises:
        ValueError: a run with another seed has not half of the committed one's steps.
    """
    name = name_of(stage, cell)
    rows = _read_recorded(root, stage, cell)
    if rows is None:
        return None
    values = contract.load_cell(root / "params.yaml", stage, cell)
    logs = {values.seed: rows} | _read_seeds(root, name, cell)
    steps = [int(row["step"]) for row in rows]
    for seed, log in logs.items():
        steps = list_common(steps, [int(row["step"]) for row in log])
        if 2 * len(steps) < len(rows):
            raise ValueError(
                f"the run of {name} with seed {seed} has other steps than the committed one: run "
                f"`python -m stages seeds` again for all seeds, after the committed run"
            )
    logs = {seed: log[: len(steps)] for seed, log in logs.items()}
    names = [*_FIGURES[stage], *sorted(getattr(values, "rewards", ()))]
    chosen = [
        figure for figure in names if all(figure in row for log in logs.values() for row in log)
    ]
    runs = [{name: [row[name] for row in log] for name in chosen} for log in logs.values()]
    window = choose_window(len(steps))
    manifest = json.loads((root / "runs" / f"{name}.json").read_text(encoding="utf-8"))
    return Reference(
        name=name,
        recipe=_read_yaml(root / "params.yaml")["report"]["recipe"],
        commit=manifest["commit"],
        seeds=list(logs),
        params=list_params(root, stage, cell),
        window=window,
        steps=steps,
        figures={name: make_band([run[name] for run in runs], window) for name in chosen},
        false_alarms=count_false_alarms(runs, window),
    )


def list_common(one: list[int], other: list[int]) -> list[int]:
    """Returns the steps with which both begin."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return [step for step, _ in pairs]


def update_references(root: Path, *, write: bool) -> Iterator[tuple[Path, bool]]:
    """Yields the file of each cell whose log is here, and whether it was as the logs say.

    Args:
        root: of the repository.
        write: whether those that are not are written anew.

    Raises:
        ValueError: as `make_reference`.
    """
    for stage, cell in list_cells(root):
        made = make_reference(root, stage, cell)
        if made is None:
            continue
        path = path_of(root, made.recipe, made.name)
        content = dump(made)
        is_same = path.is_file() and json.loads(path.read_text(encoding="utf-8")) == content
        if write and not is_same:
            write_json(path, content)
        yield path, is_same


def read_curve(path: Path) -> list[Row]:
    """Returns the rows of a training log, JSON Lines or the report's CSV of it.

    A row lacks the figures that its step has no value of: null in JSON, nothing in CSV.
    """
    if path.suffix == ".jsonl":
        return [as_figures(row) for row in read_jsonl(path)]
    with path.open(encoding="utf-8", newline="") as file:
        return [as_figures(row) for row in csv.DictReader(file)]


def as_figures(row: Mapping[str, Any]) -> Row:
    """Returns the figures that a row of a log has a value of."""
    return {name: float(value) for name, value in row.items() if value not in (None, "")}


def _read_recorded(root: Path, stage: str, cell: Cell) -> list[Row] | None:
    """Returns the log of the committed run: of the core from the report, which is in git."""
    log = out_of(stage, cell) / "log.jsonl" if cell else Path("metrics/report", f"{stage}.csv")
    return read_curve(root / log) if (root / log).is_file() else None


def seeds_of(*, is_core: bool) -> Path:
    """Returns the folder of what `python -m stages seeds` keeps, of the core or of the tracks."""
    return Path("metrics/seeds" if is_core else "metrics/results/seeds")


def _read_seeds(root: Path, name: str, cell: Cell) -> dict[int, list[Row]]:
    """Returns the logs of runs with other seeds, which `python -m stages seeds` keeps, by seed."""
    folder = root / seeds_of(is_core=not cell)
    paths = {int(path.parent.name): path for path in folder.glob(f"*/{name}.jsonl")}
    return {seed: read_curve(paths[seed]) for seed in sorted(paths)}


def list_params(root: Path, stage: str, cell: Cell) -> dict[str, Any]:
    """Returns the parameters that a run's curve depends on, by dotted name; module's docstring.

    Those of a track are its own, and all of what they are laid over.
    """
    sections = _read_yaml(root / "params.yaml")
    names = (*_ORDER, "preference") if cell else _ORDER[: _ORDER.index(stage) + 1]
    found: dict[str, Any] = {}
    for name in names:
        found |= _choose(name, sections[name], name)
    if cell:
        track = _read_yaml(root / TRACKS / cell["track"] / "params.yaml")
        for name, laid_over in track.items():
            for section, values in laid_over.items():
                found |= _choose(f"{cell['track']}.{section}", values, name)
    return found


def _read_yaml(path: Path) -> dict[str, Any]:
    """Returns the file's sections as they are: the stages check them."""
    sections: dict[str, Any] = YAML(typ="safe", pure=True).load(path)
    return sections


def _choose(prefix: str, values: dict[str, Any], stage: str) -> dict[str, Any]:
    """Returns a section's parameters by dotted name, without those that do not matter."""
    free = _FREE | ({"seed"} if stage in SEEDED else set())
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key not in free:
            found |= leaves(f"{prefix}.{key}", value)
    return found


def leaves(prefix: str, value: Any) -> dict[str, Any]:
    """Returns the leaves of nested mappings by dotted name, below `prefix` if that is not "".

    An empty mapping is a leaf.
    """
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, entry in value.items():
        found |= leaves(f"{prefix}.{key}" if prefix else key, entry)
    return found


def find_differences(reference: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns what is not as in the reference: `sft.learning_rate is 0.1 and not 0.2`."""
    texts = []
    for key in [*now, *(key for key in reference if key not in now)]:
        if key not in reference:
            texts.append(f"{key} is {now[key]!r}, which the reference does not have")
        elif key not in now:
            texts.append(f"{key} is not there")
        elif now[key] != reference[key]:
            texts.append(f"{key} is {now[key]!r} and not {reference[key]!r}")
    return texts
