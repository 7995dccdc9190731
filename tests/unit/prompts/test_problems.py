"""The shipped programming problems: their solutions pass, and what does not solve them fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stages._contract.artifacts import read_jsonl, sha256_file
from stages.prompts.text import normalise, sort_words

if TYPE_CHECKING:
    from collections.abc import Callable

PATH = Path(__file__).parents[3] / "stages" / "prompts" / "problems" / "python.jsonl"
ROWS = read_jsonl(PATH)


def cases_of(row: dict[str, Any]) -> list[tuple[list[Any], Any]]:
    """Returns the arguments and the expected value of each test."""
    return [
        ([json.loads(line) for line in test["input"].splitlines()], json.loads(test["output"]))
        for test in row["verification_info"]["test_cases"]
    ]


def name_of(row: dict[str, Any]) -> str:
    (name,) = {test["fn_name"] for test in row["verification_info"]["test_cases"]}
    return str(name)


def function_of(row: dict[str, Any]) -> Callable[..., Any]:
    scope: dict[str, Any] = {}
    exec(row["solution"], scope)  # noqa: S102 - our own file
    function: Callable[..., Any] = scope[name_of(row)]
    return function


def is_same(actual: Any, expected: Any) -> bool:
    return json.dumps(actual) == json.dumps(expected)  # True is not 1


def passes(row: dict[str, Any], function: Callable[..., Any]) -> bool:
    """Returns whether all tests pass; a function that fails at the arguments does not."""
    try:
        return all(is_same(function(*arguments), value) for arguments, value in cases_of(row))
    except (AttributeError, TypeError):
        return False


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_row_has_what_a_reward_reads(row: dict[str, Any]) -> None:
    assert set(row) == {"question", "solution", "verification_info"}
    assert row["verification_info"]["language"] == "python"
    tests = row["verification_info"]["test_cases"]
    assert len(tests) >= 5
    for test in tests:
        assert set(test) == {"type", "fn_name", "input", "output"}
        assert test["type"] == "function_call"
    assert len({test["input"] for test in tests}) == len(tests)
    assert f"`{name_of(row)}(" in row["question"]
    assert "```python" in row["question"]


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_solution_passes(row: dict[str, Any]) -> None:
    assert passes(row, function_of(row))


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_what_does_not_look_at_all_arguments_fails(row: dict[str, Any]) -> None:
    expected = [value for _, value in cases_of(row)]
    for constant in (None, 0, 1, "", True, False, [], *expected):
        assert not passes(row, lambda *_, constant=constant: constant)
    for index in range(len(cases_of(row)[0][0])):
        assert not passes(row, lambda *arguments, index=index: arguments[index])


def test_page_shows_the_files_sha256() -> None:
    page = PATH.parents[1] / "README.md"
    assert f"sha256: {sha256_file(PATH)}\n" in page.read_text(encoding="utf-8")


def test_no_two_problems_are_taken_for_one() -> None:
    questions = [normalise(row["question"]) for row in ROWS]
    assert len(ROWS) == 60
    assert len({sort_words(question) for question in questions}) == 60
    assert len({name_of(row) for row in ROWS}) == 60
