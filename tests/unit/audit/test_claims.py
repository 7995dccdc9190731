"""Numbers of the pages: none without a claim, each as measured; in copies of this repository."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from stages._audit.claims import find_problems, measure, read_ledger, render_ledger, update_pages

if TYPE_CHECKING:
    from pathlib import Path


def find(duplicate: Path) -> dict[str, str]:
    """Returns what is wrong, by claim."""
    return {name: problem for name, problem in find_problems(duplicate) if problem is not None}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, (old, text.count(old))
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_every_page_with_numbers_is_covered(original: Path) -> None:
    _, given = read_ledger(original)
    pages = {path.relative_to(original).as_posix() for path in original.glob("stages/*/README.md")}
    assert set(given) == pages | {"README.md", "REPRODUCE.md", "tracks/README.md"}
    assert find(original) == {}


@pytest.mark.parametrize("page", ["README.md", "REPRODUCE.md", "stages/grpo/README.md"])
@pytest.mark.parametrize(
    "sentence", ["It is 3.7 times as fast.", "So 99 % are right.", "It has 12."]
)
def test_number_without_a_claim_fails(duplicate: Path, page: str, sentence: str) -> None:
    with (duplicate / page).open("a", encoding="utf-8") as file:
        file.write(f"\n{sentence}\n")
    number = re.search(r"[\d.]*\d", sentence)
    assert number is not None
    ((name, problem),) = find(duplicate).items()
    assert name == f"{page}: every number has a claim"
    assert problem.startswith(f"'{number[0]}")
    assert "add it to docs/claims.yaml" in problem


def test_number_in_code_or_in_a_name_needs_none(duplicate: Path) -> None:
    with (duplicate / "README.md").open("a", encoding="utf-8") as file:
        file.write(
            "\nSet `seed: 17` for R1 on x86-64, see [here](page-3.html).\n\n```sh\nls 4\n```\n"
        )
    assert find(duplicate) == {}


@pytest.mark.parametrize("claim", ["C2", "C3", "C4"])
def test_claim_that_is_not_what_was_measured_fails_and_is_brought_up_to_date(
    duplicate: Path, claim: str
) -> None:
    path = duplicate / "REPRODUCE.md"
    before = path.read_text(encoding="utf-8")
    row = next(line for line in before.splitlines() if line.startswith(f"| {claim} |"))
    path.write_text(before.replace(row, re.sub(r"\d\.\d(?= ±)", "7.7", row)), encoding="utf-8")
    problems = find(duplicate)
    assert f"REPRODUCE.md: claim {claim}" in problems
    assert update_pages(duplicate) == [claim]
    assert path.read_text(encoding="utf-8") == before


def test_claim_of_what_is_not_measured_is_an_error(duplicate: Path) -> None:
    edit(duplicate / "docs/claims.yaml", "{run.fetch.gib:.1f}", "{run.fetch.wishes:.1f}")
    with pytest.raises(ValueError, match="'run.fetch.wishes' is no measured value"):
        find(duplicate)


def test_given_number_that_is_gone_leaves_the_ledger(duplicate: Path) -> None:
    edit(duplicate / "README.md", "the base model (93 MB)", "the base model")
    ((name, problem),) = find(duplicate).items()
    assert name == "README.md: given"
    assert "remove it from docs/claims.yaml" in problem


def test_ledger_names_what_each_claim_rests_on(original: Path) -> None:
    page = render_ledger(original)
    accuracy = measure(original)["arithmetic.grpo.accuracy"]
    (row,) = (line for line in page.splitlines() if line.startswith("| C3 | REPRODUCE.md |"))
    assert f"{100 * accuracy:.1f} ±" in row
    assert "metrics/evaluate/grpo.json" in row
    assert re.search(r"Commit \w{10}.*cpu.lock.txt, sha256 \w{64}; no image", page)
    assert "(k = 1)" in page


def test_ledger_has_what_is_given_and_where_the_tables_are(original: Path) -> None:
    """Nothing else that a page shows has a number, as `find_problems` checks."""
    claimed, _, rest = render_ledger(original).partition("\nGiven, not measured:\n")
    assert "| results | README.md | its tables | metrics/report/results.md |\n" in claimed
    assert "| results | tracks/README.md | its tables | metrics/results/report/results.md |\n" in (
        claimed
    )
    _, given = read_ledger(original)
    rows = [f"| {page} | {text} |" for page, texts in given.items() for text in texts]
    table = rest.strip().split("\n\n")[0].splitlines()
    assert table[:2] == ["| page | says |", "|---|---|"]
    assert [row.replace("\\|", "|") for row in table[2:]] == rows
    assert "| REPRODUCE.md | lie within ±10 of each other |" in table
