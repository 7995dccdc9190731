"""Workflows take pinned actions, and no more permissions than they need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

WORKFLOWS = sorted((Path(__file__).parents[2] / ".github" / "workflows").iterdir())


def read(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_nothing_from_outside_is_spliced_into_shell(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
    for step in steps:
        assert "${{" not in step.get("run", "")


def test_report_may_comment_and_nothing_else() -> None:
    (path,) = (path for path in WORKFLOWS if path.stem == "pr-report")
    workflow = read(path)
    assert workflow["jobs"]["report"]["permissions"] == {
        "contents": "read",
        "pull-requests": "write",
    }
    assert "pull_request_target" not in path.read_text(encoding="utf-8")
    commands = " ".join(step.get("run", "") for step in workflow["jobs"]["report"]["steps"])
    assert 'python -m stages compare "$BASE"' in commands
