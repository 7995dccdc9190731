"""The results as a Markdown page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ROWS = {
    "accuracy": "right",
    "format_rate": "in the format",
    "accuracy_given_format": "right, of those in the format",
}
# What the scorer of the response format adds.
FLEXIBLE = {"flexible_accuracy": "right, in any format (the last number)"}
# Keys of results.json that are no share of responses, or are shown otherwise. A task's scorer may
# have others, such as a bias score.
_OTHER_KEYS = {"majority_accuracy", "mean_tokens", "num_problems", "num_samples"}


def render(
    results: Mapping[str, Mapping[str, Any]], paired: Mapping[str, Any], confidence: float
) -> str:
    """Returns the page: all values in percent, as `value ± standard error`.

    Args:
        results: by model and task, evaluate's results.json.
        paired: by task and pair ("grpo_minus_sft"), as `compare` returns it.
        confidence: of the intervals.
    """
    names = " | ".join(results)
    lines = [f"| task | % of problems | {names} |", f"|---|---{'|---:' * len(results)}|"]
    for task in paired:
        for key, label in _rows(next(iter(results.values()))[task]).items():
            cells = [
                percent(model[task][key], model[task].get(f"{key}_stderr"))
                for model in results.values()
            ]
            lines.append(f"| {task} | {label} | {' | '.join(cells)} |")
    lines += [
        "",
        f"| task | paired difference of % right | {confidence:.0%} interval | gained / lost |",
    ]
    lines += ["|---|---:|---:|---:|"]
    for task, pairs in paired.items():
        for pair, values in pairs.items():
            second, _, first = pair.partition("_minus_")
            value = percent(values["difference"], values["stderr"], sign="+")
            interval = f"{100 * values['ci_low']:+.1f} to {100 * values['ci_high']:+.1f}"
            counts = f"{values['num_gained']} / {values['num_lost']}"
            lines.append(f"| {task} | {second} - {first}: {value} | {interval} | {counts} |")
    first = next(iter(results.values()))
    numbers = {task: first[task]["num_problems"] for task in paired}
    lines += ["", "Problems: " + ", ".join(f"{task} {num}" for task, num in numbers.items()) + "."]
    return "\n".join(lines) + "\n"


def _rows(cell: Mapping[str, Any]) -> dict[str, str]:
    """Returns the labels of the keys to show: all tasks' own, and what this one's scorer adds."""
    rows = dict(ROWS)
    if cell["num_samples"] > cell["num_problems"] and cell["majority_accuracy"] is not None:
        rows["majority_accuracy"] = "of problems: most answers right (cons@k)"
    for key in cell:
        if key not in rows and key not in _OTHER_KEYS and not key.endswith("_stderr"):
            rows[key] = FLEXIBLE.get(key, key.replace("_", " "))
    return rows


def percent(value: float | None, stderr: float | None, sign: str = "") -> str:
    """Returns "33.3 ± 2.7" for a share and its standard error, or a dash where it is undefined."""
    if value is None:
        return "–"
    error = "" if stderr is None else f" ± {100 * stderr:.1f}"
    return f"{100 * value:{sign}.1f}{error}"
