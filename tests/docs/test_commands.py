"""Every command that the pages tell to type is run, or rendered, or named with the test of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from stages._contract.params import stage_names
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

BLOCKS = [
    block
    for page in find_pages()
    if not page.startswith(RUN_WHOLE)
    for block in read_blocks(page)
    if block.language in COMMANDS
]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block_says_how_it_is_tested(block: Block) -> None:
    assert block.how, f"{block}: say it before the block, see tests/docs/blocks.py"
    for _, _, how in block.read_ways():
        if how in {"run", "cluster"}:
            continue
        path, found, name = how.partition("::")
        assert found, f"{block}: {how!r} is neither a way nor a test"
        assert (ROOT / path).is_file(), f"{block}: there is no {path}"
        assert f"def {name}(" in (ROOT / path).read_text("utf-8"), f"{block}: {path} has no {name}"


def blocks_with(way: str) -> list[Block]:
    return [block for block in BLOCKS if way in block.how]


@pytest.mark.parametrize("block", blocks_with("run"), ids=str)
def test_commands_run(block: Block, copy: Path) -> None:
    for command, expected, how in block.read_ways():
        if how == "run":
            may_fail = "rederive: " in (expected or "")
            check_output(block, command, expected, run(command, copy, may_fail=may_fail))
    git(copy, "reset", "-q", "--hard")


@pytest.mark.parametrize("block", blocks_with("cluster"), ids=str)
def test_jobs_are_rendered(block: Block, copy: Path) -> None:
    for command, _, how in block.read_ways():
        if how != "cluster":
            continue
        found = re.match(r"R1_SITE=(\w+) (dvc repro|python -m stages controller)", command)
        assert found, f"{block}: {command!r} names no site"
        site, what = found.groups()
        run(f"[ -e slurm/sites/{site}.yaml ] || cp slurm/sites/{{example,{site}}}.yaml", copy)
        jobs = stage_names() if what == "dvc repro" else ["controller"]
        for job in jobs:
            cell = " --model base --task arithmetic" if job == "evaluate" else ""
            script = run(f"R1_SITE={site} python -m stages render {job}{cell}", copy)
            call = "dvc repro" if job == "controller" else f"-m stages exec {job}"
            assert call in script
            assert (
                subprocess.run(["bash", "-n"], input=script, text=True, check=True).returncode == 0
            )
    git(copy, "clean", "-qfd", "slurm")


def test_rendered_job_is_the_golden_one(copy: Path) -> None:
    script = run("R1_SITE=example python -m stages render grpo", copy)
    golden = (ROOT / "tests/golden/slurm/example-grpo.sh").read_text("utf-8")
    python = re.findall(r"export PATH=(\S+):", script)[0]
    shown = script.replace(python, "/shared/rederive/.venv/bin").replace(
        str(copy), "/shared/rederive"
    )
    assert shown == golden


def test_clone_is_verified_by_the_page_s_commands(original: Path, tmp_path: Path) -> None:
    """`python3 -m nox -s verify` in a clone, as REPRODUCE.md has it."""
    clone = make_copy(original, tmp_path / "rederive")
    printed = run("python3 -m pip install nox && python3 -m nox -s verify", clone)
    assert "PASS" in printed
    assert "FAIL" not in printed


def test_clone_that_has_run_is_verified_by_the_page_s_commands(
    original: Path, tmp_path: Path
) -> None:
    """A run of one's own leaves its commit and time in `runs/`: the page says what to restore."""
    clone = make_copy(original, tmp_path / "rederive")
    run("python -m stages run prompts", clone)
    printed = run("python -m stages verify", clone, may_fail=True)
    failed = re.findall(r"(?m)^FAIL (.*)", printed)
    assert any(line.endswith("changed since: runs/prompts.json") for line in failed)
    assert any(line.startswith("README.md: commit ") for line in failed)
    (command,) = [
        command
        for block in read_blocks("REPRODUCE.md")
        for command, _, how in (block.read_ways() if block.language in COMMANDS else [])
        if how.endswith("::test_clone_that_has_run_is_verified_by_the_page_s_commands")
    ]
    printed = run(command, clone)
    assert "PASS runs/prompts.json: inputs and outputs\n" in printed
    assert "PASS dvc.lock: prompts\n" in printed  # and no note: its output is here
    assert "FAIL" not in printed


def test_recipe_is_run_by_the_page_s_commands(copy: Path) -> None:
    """`python3 -m nox -s repro`, which passes on what follows `--` to `dvc repro`."""
    printed = run("python3 -m nox -s repro -- --dry --allow-missing", copy)
    assert "Stage 'evaluate@grpo-arithmetic' didn't change, skipping" in printed
    assert "Data and pipelines are up to date." in printed


def test_evaluation_set_is_apart_by_the_page_s_program(original: Path, tmp_path: Path) -> None:
    repo = make_copy(original, tmp_path / "rederive")
    run("python -m stages run prompts", repo)
    (command,) = [
        command
        for block in read_blocks("REPRODUCE.md")
        for command, _ in (block.read_commands() if block.language in COMMANDS else [])
        if command.startswith(".venv/bin/python - ")
    ]
    assert run(command, repo) == "0\n"


def test_ci_runs_the_sessions_that_the_pages_name() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "\npython3 -m nox -s tests\n" in script
    assert "\npython3 -m nox -s lint types docs\n" in script
    packages = (ROOT / ".ci/install-packages").read_text(encoding="utf-8")
    assert packages.endswith('/../containers/install-apptainer"\n')


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ([], "say it before the block"),
        (["run", "run"], "2 ways for 1 commands"),
        (["by hand"], "is neither a way nor a test"),
        (["tests/docs/test_commands.py::test_of_nothing"], "has no test_of_nothing"),
    ],
)
def test_block_that_no_test_runs_is_found(how: list[str], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        test_block_says_how_it_is_tested(Block("a.md", 1, how, "sh", None, "dvc repro\n"))


def test_block_is_read_with_its_mark_and_its_commands() -> None:
    block = Block(
        "a.md", 1, ["run"], "sh", None, "a \\\n  b  # c\n\npython - <<'EOF'\nx\n\nEOF\nd\n"
    )
    assert [command for command, _ in block.read_commands()] == [
        "a \\\n  b  # c\n",
        "python - <<'EOF'\nx\n\nEOF\n",
        "d\n",
    ]
    console = Block("a.md", 1, ["run"], "console", None, "$ a \\\n> b\nout\n\n$ c\n")
    assert console.read_commands() == [("a \\\nb\n", "out\n\n"), ("c\n", "")]


@pytest.mark.parametrize(
    ("expected", "printed", "is_right"),
    [
        ("a\n", "a\n", True),
        ("a\n", "b\n", False),
        ("a\n...\nc\n", "a\nb\nb\nc\n", True),
        ("a\n...\nc\n", "a\nc\n", True),
        ("a\n...\n", "b\na\n", False),
        ("a … c\n", "a b c\n", True),
        ("a … c\n", "a\nb c\n", False),
        (None, "b\n", True),
    ],
)
def test_output_is_compared(expected: str | None, printed: str, *, is_right: bool) -> None:
    block = Block("a.md", 1, ["run"], "console", None, "")
    if is_right:
        check_output(block, "x", expected, printed)
    else:
        with pytest.raises(AssertionError):
            check_output(block, "x", expected, printed)
