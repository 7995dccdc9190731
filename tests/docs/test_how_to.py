"""The pages of docs/how-to, followed from top to bottom, each in a copy of the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ruamel.yaml import YAML

from stages._contract.artifacts import read_jsonl
from tests.docs.blocks import (
    COMMANDS,
    ROOT,
    RUN_WHOLE,
    Block,
    check_output,
    find_pages,
    read_blocks,
    run,
)
from tests.docs.conftest import make_copy
from tests.git import git
from tests.repository import change, dvc, read

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = [page for page in find_pages() if page.startswith(RUN_WHOLE)]


def follow(page: str, folder: Path) -> Iterator[tuple[Block, str, str | None, str]]:
    """Does what the page says, and yields each command with what it should print and did print."""
    for block in read_blocks(page):
        if block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "diff":
            (folder / "page.diff").write_text(block.text, encoding="utf-8")
            git(folder, "apply", "page.diff")
            (folder / "page.diff").unlink()
        elif block.language not in COMMANDS:
            raise AssertionError(f"{block}: a block of {block.language} is of a file: title it")
        elif not block.how:
            for command, expected in block.read_commands():
                may_fail = any(word in (expected or "") for word in ("rederive: ", "FAIL "))
                yield block, command, expected, run(command, folder, may_fail=may_fail)


@pytest.mark.parametrize("page", PAGES)
def test_page_does_what_it_says(page: str, original: Path, tmp_path: Path) -> None:
    for block, command, expected, printed in follow(page, make_copy(original, tmp_path / "copy")):
        check_output(block, command, expected, printed)


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_names_its_test(page: str) -> None:
    for block in read_blocks(page):
        for how in block.how:
            path, _, name = how.partition("::")
            assert f"def {name}(" in (ROOT / path).read_text("utf-8"), f"{block}: no {how}"


@pytest.fixture(scope="module")
def extended(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a repository with the pages' reward and task, and the tests' tiny model."""
    from tests.recipe import shrink  # noqa: PLC0415 - imports torch

    repo = make_copy(original, tmp_path_factory.mktemp("extended") / "copy")
    for page in ("docs/how-to/reward.md", "docs/how-to/task.md"):
        for _ in follow(page, repo):
            pass
    task = YAML(typ="safe", pure=True).load(repo / "params.yaml")["prompts"]["sources"]["products"]
    shrink(repo)
    values = {"grpo.model": "artifacts/base", "grpo.max_steps": 2, "report.tasks": ["products"]}
    change(repo, {"prompts.sources.products": task, **values})
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "a reward and a task")
    dvc(repo, "repro", "fetch", "prompts")
    return repo


@pytest.mark.pipeline
def test_new_task_is_asked(extended: Path) -> None:
    dvc(extended, "repro", "evaluate@base-products")
    results = read(extended, "artifacts/evaluate/base/products/results.json")
    assert results["num_problems"] == 100
    assert results["accuracy"] == 0.0


@pytest.mark.pipeline
def test_new_reward_is_earned(extended: Path) -> None:
    (command,) = [
        command
        for block in read_blocks("docs/how-to/reward.md")
        if block.how
        for command, _ in block.read_commands()
    ]
    printed = run(f"{command.strip()} grpo", extended)
    assert re.findall(r"Running stage '(.*)'", printed) == ["grpo"]
    log = read_jsonl(extended / "artifacts/grpo/log.jsonl")
    assert len(log) == 2
    assert all(0 <= row["restates"] <= 1 and row["unscorable/restates"] == 0 for row in log)
