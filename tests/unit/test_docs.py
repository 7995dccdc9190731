"""Pages point at what is there; `python -m stages verify` checks what they say of results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
