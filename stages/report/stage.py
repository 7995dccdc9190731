"""Collects the evaluations into one table with paired differences, and the training curves."""

from __future__ import annotations

import csv
import json
from statistics import fmean
from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import read_jsonl, write_jsonl
from stages.report.paired import compare, measure_accuracy
from stages.report.table import render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stages.report.params import ReportInputs, ReportParams

Row = dict[str, Any]


def run(params: ReportParams, inputs: ReportInputs, out: Path, work: Path) -> dict[str, Any]:
    """Writes results.md, samples, and each log as CSV into `out`; returns cells and differences.

    Raises:
        ValueError: a cell is missing or corrupted, or the models were asked different problems.
    """
    del work
    results: dict[str, dict[str, Any]] = {model: {} for model in params.models}
    accuracies: dict[str, dict[str, dict[str, float]]] = {}
    for task in params.tasks:
        samples, accuracies[task] = {}, {}
        for model, folder in zip(params.models, inputs.evaluations, strict=True):
            cell = read_cell(folder / task)
            results[model][task], samples[model], accuracies[task][model] = cell
        check_same_problems(task, accuracies[task])
        write_samples(inputs.problems / f"{task}.jsonl", samples, out / "samples")
    paired = compare_models(accuracies, params.pairs, params.confidence)
    page = render(results, paired, params.confidence)
    (out / "results.md").write_text(page, encoding="utf-8")
    for name, log in zip(params.logs, inputs.logs, strict=True):
        write_csv(out / f"{name}.csv", read_jsonl(log))
    return {"paired": paired} | {f"evaluate/{model}": results[model] for model in params.models}


def compare_models(
    accuracies: Mapping[str, Mapping[str, Mapping[str, float]]],
    pairs: Sequence[Sequence[str]],
    confidence: float,
) -> dict[str, dict[str, Any]]:
    """Returns by task and pair ("grpo_minus_sft") what `compare` says.

    Args:
        accuracies: in [0, 1], by task, model and problem id; the same problems for each model.
        pairs: of models; the second is compared with the first.
        confidence: of the intervals, in (0, 1).
    """
    return {
        task: {
            f"{second}_minus_{first}": compare(by_model[first], by_model[second], confidence)
            for first, second in pairs
        }
        for task, by_model in accuracies.items()
    }


def write_samples(path: Path, samples: Mapping[str, list[Row]], folder: Path) -> None:
    """Writes <model>/<task>.jsonl: each problem with its question, reference and responses.

    In git, they let anybody score the responses again, without artifacts or a model. Where the
    task's scorer has noted the answers, they stand for the responses, whose thoughts are long.

    Raises:
        ValueError: a response belongs to no problem.
    """
    problems = {row["id"]: row for row in read_jsonl(path)}
    for model, rows in samples.items():
        for row in rows:
            if row["id"] not in problems:
                raise ValueError(
                    f"there is a response of {model} to {row['id']}, which is not in {path}: run "
                    f"`dvc repro evaluate`"
                )
            problem = problems[row["id"]]
            if "answers" in row:
                del row["responses"]
            row |= {"question": problem["prompt"][-1]["content"], "answer": problem["answer"]}
        (folder / model).mkdir(parents=True, exist_ok=True)
        write_jsonl(folder / model / path.name, rows)


def read_cell(folder: Path) -> tuple[dict[str, Any], list[Row], dict[str, float]]:
    """Returns a cell's results.json, the rows of its samples.jsonl, and accuracies by problem id.

    Raises:
        ValueError: a file is missing or corrupted, or the two do not agree.
    """
    hint = "run `dvc repro evaluate`"
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        rows = read_jsonl(folder / "samples.jsonl")
        accuracy = measure_accuracy(rows)
        recorded = results["accuracy"]
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename} is not there: {hint}") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is corrupted ({error!r}): {hint}") from error
    if len(accuracy) < max(2, len(rows)) or abs(fmean(accuracy.values()) - recorded) > 1e-9:  # noqa: PLR2004
        raise ValueError(
            f"{folder}: results.json says accuracy {recorded}, which is not that of the "
            f"{len(rows)} rows of samples.jsonl: {hint}"
        )
    return results, rows, accuracy


def check_same_problems(task: str, by_model: Mapping[str, Mapping[str, float]]) -> None:
    """Checks that all models were asked the same. Raises ValueError naming a problem."""
    (name, first), *others = by_model.items()
    for model, asked in others:
        different = sorted(first.keys() ^ asked.keys())
        if different:
            raise ValueError(
                f"{name} and {model} were asked different problems of {task} ({different[0]} and "
                f"{len(different) - 1} more): run `dvc repro evaluate`"
            )


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the rows of a training log, `step` first, the other columns by name."""
    columns = ["step", *sorted(rows[0].keys() - {"step"})]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
