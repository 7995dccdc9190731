"""Pages point at what is there; `python -m stages verify` checks what they say of results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "stages/**/*.md", "containers/*.md", "slurm/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_decisions_exist_and_nothing_is_left_to_fill_in(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"@[A-Z]+@", text) == []
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_decision_that_is_named_exists() -> None:
    decisions = {path.name[:4] for path in (ROOT / "docs/adr").glob("*.md")}
    named = set()
    for path in [*PAGES, ROOT / "params.yaml", *(ROOT / "stages").rglob("*.py")]:
        named |= set(re.findall(r"ADR (\d{4})", path.read_text(encoding="utf-8")))
    assert named <= decisions
    assert len(decisions) >= 4


def test_log_has_the_newest_entry_first() -> None:
    dates = re.findall(r"(?m)^## (\S+): ", (ROOT / "docs/log.md").read_text(encoding="utf-8"))
    assert len(dates) > 20
    assert dates == sorted(dates, reverse=True)


STAGE_PAGES = sorted(ROOT.glob("stages/*/README.md"))
HEADINGS = [
    "Question",
    "Inputs",
    "Outputs",
    "Parameters",
    "Metrics",
    "Method",
    "Deviations",
    "Expected result",
    "Errors",
    "Tests",
]


@pytest.mark.parametrize("page", STAGE_PAGES, ids=lambda page: page.parent.name)
def test_stage_pages_have_the_same_headings(page: Path) -> None:
    text = re.sub(r"(?s)```.*?```", "", page.read_text(encoding="utf-8"))
    assert re.findall(r"(?m)^## (.*)$", text) == HEADINGS
    assert f"# {page.parent.name}\n" == text[: text.index("\n") + 1]
    assert re.findall(r"(?m)^\*\*(?:Question|Parameters|Errors|Tests)\.\*\*", text) == []


@pytest.mark.parametrize("page", STAGE_PAGES, ids=lambda page: page.parent.name)
def test_stage_page_says_file_value_tolerance_time_and_memory(page: Path) -> None:
    """In one line of a table, which is a claim: from metrics and from a manifest of `runs/`."""
    section = page.read_text(encoding="utf-8").partition("\n## Expected result\n")[2]
    header = "| file | value | tolerance | time, memory |\n|---|---|---|---|\n"
    table = section.partition(header)[2].partition("\n\n")[0].splitlines()
    assert len(table) == 1
    name = page.relative_to(ROOT).as_posix()
    ledger = YAML(typ="safe", pure=True).load(ROOT / "docs/claims.yaml")["claims"]
    (claim,) = [c for c in ledger if c["page"] == name and c["id"] == "expected"]
    parts = re.split(r"\{[^}]+\}", claim["text"])
    assert re.fullmatch(".+".join(map(re.escape, parts)), table[0])
    (file,) = re.findall(r"^\| `(metrics/.*?\.json)`", table[0])
    assert (ROOT / file).is_file()
    assert re.search(
        r"\{run\.[\w.-]+\.s:\.\df\} s, \{run\.[\w.-]+\.gib:\.1f\} GiB \|$", claim["text"]
    )
