"""The recorded values on the tutorial's page are the recorded run's."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.docs.blocks import ROOT, read_blocks

PAGE = "docs/tutorial.md"
# What to do where the page is behind: its step 3 on the recorded run takes minutes.
REMEDY = (
    "run the tutorial's steps 3 and 4 in a clone that has the recorded run, and copy its output"
)


def read_shown() -> dict[str, str]:
    """Returns what the tutorial's commands print, by the command."""
    return {
        command.strip(): printed or ""
        for block in read_blocks(PAGE)
        if block.language == "console"
        for command, printed in block.read_commands()
    }


def recorded(path: str, name: str) -> float:
    value: Any = json.loads((ROOT / path).read_text(encoding="utf-8"))
    for part in name.split("."):
        value = value[part]
    assert isinstance(value, int | float)
    return value


def test_recorded_values_are_those_of_the_run() -> None:
    (shown,) = [text for command, text in read_shown().items() if "metrics diff" in command]
    rows = [line.split() for line in shown.splitlines()[1:]]
    assert len(rows) > 20
    for path, name, before, after, change in rows:
        assert float(before) == pytest.approx(recorded(path, name), abs=6e-6), REMEDY
        assert float(after) - float(before) == pytest.approx(float(change), abs=2e-5)
    table = read_shown()["python -m stages compare HEAD"]
    compared = re.findall(r"(?m)^\| (\w+) \| (base|sft|grpo) \| (\S+) \| (\S+) \| (\S+) ±", table)
    assert len(compared) == 6
    for task, model, before, after, change in compared:
        accuracy = recorded(f"metrics/evaluate/{model}.json", f"{task}.accuracy")
        assert before == f"{100 * accuracy:.1f}", REMEDY
        assert float(after) - float(before) == pytest.approx(float(change), abs=0.11)
