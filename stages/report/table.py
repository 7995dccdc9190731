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
        for key, label in ROWS.items():
            cells = [
                percent(model[task][key], model[task][f"{key}_stderr"])
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


def percent(value: float | None, stderr: float | None, sign: str = "") -> str:
    """Returns "33.3 ± 2.7" for a share and its standard error, or a dash where it is undefined."""
    if value is None:
        return "–"
    return f"{100 * value:{sign}.1f} ± {100 * (stderr or 0):.1f}"
