"""What a change did to the results: a Markdown page for the review of a pull request.

It compares a commit with the working tree by what is in git, of the core graph and of the tracks:
scored responses, metrics, manifests and locks. So it needs neither artifacts nor a model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, Any

from dvc.repo import Repo

from stages._audit.bisect import find_changed_inputs
from stages._audit.git import read_at, read_commit
from stages._audit.locks import Entry, list_graphs, read_locks
from stages._audit.published import list_reports, name_command, read_run
from stages._contract.artifacts import read_jsonl
from stages._contract.params import load
from stages._contract.places import below
from stages.evaluate.tasks.scoring import stderr
from stages.report.paired import compare, measure_accuracy
from stages.report.table import percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_POWER = 0.8  # of the minimum detectable effect
Accuracy = dict[str, float]  # in [0, 1], by problem id


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one model on one task is better or worse than before; shares, in [-1, 1]."""

    before: float
    after: float
    stderr: float
    ci_low: float
    ci_high: float
    minimum_detectable_effect: float
    is_paired: bool

    @property
    def word(self) -> str:
        """Returns better, worse, or that there is no evidence of either."""
        if self.is_paired and self.before == self.after and self.stderr == 0:
            return "the same answers"
        if self.ci_low > 0:
            return "**better**"
        return "**worse**" if self.ci_high < 0 else "no evidence"


def judge(before: Accuracy, after: Accuracy, confidence: float) -> Verdict:
    """Returns the verdict on `after`, with a normal interval.

    Paired (Miller, arXiv:2411.00640, section 4.2) if both are of the same problems, else by two
    independent means. The minimum detectable effect is the difference that an interval of this
    width would tell from 0 in 80 % of the repetitions: (z(confidence) + z(0.8)) standard errors.

    Args:
        before: accuracy in [0, 1] by problem id, two problems at least.
        after: the same of the new commit.
        confidence: of the interval, in (0, 1).
    """
    is_paired = before.keys() == after.keys()
    old, new = fmean(before.values()), fmean(after.values())
    if is_paired:
        error = float(compare(before, after, confidence)["stderr"])
    else:
        errors = [stderr(list(values.values())) or 0.0 for values in (before, after)]
        error = sum(value**2 for value in errors) ** 0.5
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    return Verdict(
        before=old,
        after=new,
        stderr=error,
        ci_low=new - old - z * error,
        ci_high=new - old + z * error,
        minimum_detectable_effect=(z + NormalDist().inv_cdf(_POWER)) * error,
        is_paired=is_paired,
    )


def render_comparison(root: Path, revision: str) -> str:
    """Returns the page that compares the working tree with a commit, as Markdown.

    Raises:
        ValueError: git knows no such commit.
    """
    commit = read_commit(root, revision)
    confidence = float(load(root / "params.yaml", "report").confidence)
    before, after = read_locks(root, commit), read_locks(root)
    tables = _read_tables(root)
    parts = [
        f"# Compared with {revision} ({commit[:10]})",
        f"\nStages, parameters and results of {', '.join(list_graphs([*after, *before]))}.",
        *_render_params(root, revision),
        *_render_stages(root, before, after),
        *(
            line
            for folder, models in tables.items()
            for line in _render_verdicts(root, revision, confidence, folder, models)
        ),
        *_render_metrics(root, revision, tables),
    ]
    return "\n".join(parts) + "\n"


def _read_tables(root: Path) -> dict[Path, list[str]]:
    """Returns the models of each table, in its order, by the folder of the table's metrics."""
    return {below("metrics", cell): list(found.models) for cell, found in list_reports(root)}


def _render_params(root: Path, revision: str) -> Iterator[str]:
    with Repo(str(root)) as repo:
        files = repo.params.diff(a_rev=revision).get("diff", {})
    rows = [
        f"| `{'' if path == 'params.yaml' else f'{path}:'}{name}` "
        f"| {_show(values.get('old'))} | {_show(values.get('new'))} |"
        for path, changed in sorted(files.items())
        for name, values in sorted(changed.items())
    ]
    yield from _section("Parameters", ["parameter", "before", "after"], rows, "No value changed.")


def _render_stages(
    root: Path, before: Mapping[str, Entry], after: Mapping[str, Entry]
) -> Iterator[str]:
    """Stages whose entry in the locks differs, and what running them took."""
    rows, seconds = [], 0.0
    for name, entry in after.items():
        if entry == before.get(name):
            continue
        run = read_run(root, name_command(entry["cmd"]))
        seconds += run["duration_s"]
        memory = run["peak_memory_bytes"] / 2**30
        why = ", ".join(_find_reasons(before.get(name), entry))
        rows.append(f"| {name} | {why} | {run['duration_s']:.0f} s | {memory:.1f} GiB |")
    rows += [f"| {name} | is gone | | |" for name in before if name not in after]
    columns = ["stage", "what differs", "time", "memory"]
    yield from _section("Stages that ran again", columns, rows, "No stage ran.")
    if rows:
        yield f"\nTogether {seconds / 60:.1f} minutes."


def _find_reasons(before: dict[str, Any] | None, after: dict[str, Any]) -> list[str]:
    """Returns what a stage read differently, or that its output differs although it did not."""
    if before is None:
        return ["new"]
    reasons = list(find_changed_inputs(before, after))
    return reasons or ["**nothing: other output from the same inputs**"]


def _render_verdicts(
    root: Path, revision: str, confidence: float, folder: Path, models: Sequence[str]
) -> Iterator[str]:
    rows = []
    for path in sorted((root / folder).glob("report/samples/*/*.jsonl")):
        text = read_at(root, revision, path.relative_to(root).as_posix())
        if text is not None and path.parent.name in models:
            before = measure_accuracy(map(json.loads, text.splitlines()))
            after = measure_accuracy(read_jsonl(path))
            rows.append((path.parent.name, path.stem, judge(before, after, confidence)))
    rows.sort(key=lambda row: (row[1], models.index(row[0])))
    columns = ["task", "model", "before", "after", "difference", f"{confidence:.0%} interval"]
    columns += ["minimum detectable", "verdict"]
    lines = [
        f"| {task} | {model} | {100 * found.before:.1f} | {100 * found.after:.1f} "
        f"| {percent(found.after - found.before, found.stderr, sign='+')} "
        f"| {100 * found.ci_low:+.1f} to {100 * found.ci_high:+.1f} "
        f"| {100 * found.minimum_detectable_effect:.1f} "
        f"| {found.word}{'' if found.is_paired else ' (other problems: not paired)'} |"
        for model, task, found in rows
    ]
    title = "Accuracy, %" if folder == Path("metrics") else f"Accuracy, %: {folder}"
    yield from _section(title, columns, lines, "The commit has no scored responses.")
    if lines:
        yield (
            f"\nDifferences are of means over problems, ± standard error. {len(lines)} verdicts: "
            f"at {confidence:.0%}, one in {1 / (1 - confidence):.0f} without any effect is not "
            f"'no evidence'. The intervals are over problems, for one run: other seeds vary, too."
        )


def _render_metrics(root: Path, revision: str, tables: Iterable[Path]) -> Iterator[str]:
    """The other metrics that changed, which have no interval of their own."""
    with Repo(str(root)) as repo:
        files = repo.metrics.diff(a_rev=revision).get("diff", {})
    judged = [folder / part for folder in tables for part in ("evaluate", "paired.json")]
    rows = [
        f"| `{path}` | `{name}` | {_show(values.get('old'))} | {_show(values.get('new'))} |"
        for path, changed in sorted(files.items())
        if not any(Path(path).is_relative_to(part) for part in judged)
        for name, values in sorted(changed.items())
    ]
    columns = ["file", "metric", "before", "after"]
    yield from _section("Other metrics", columns, rows, "None changed.")


def _show(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _section(title: str, columns: Sequence[str], rows: Sequence[str], empty: str) -> Iterator[str]:
    yield f"\n## {title}\n"
    if not rows:
        yield empty
        return
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    yield from rows
