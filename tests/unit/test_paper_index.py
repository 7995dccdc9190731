"""docs/paper_index.md against the parameters, the code and the libraries that it names."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from math import isclose
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/paper_index.md").read_text(encoding="utf-8")
RECIPE = ROOT / "recipes/r1-paper.yaml"
# Where the classes of options are that the tables name.
OPTIONS = {
    "GRPOConfig": "trl/trainer/grpo_config.py",
    "RewardConfig": "trl/trainer/reward_config.py",
    "SFTConfig": "trl/trainer/sft_config.py",
    "SamplingParams": "vllm/sampling_params.py",
    "TrainingArguments": "transformers/training_args.py",
}
NUM_COLUMNS = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A row of a table, and the files that head its two columns of values."""

    says: str
    parameter: str
    paper: str
    values: tuple[str, str]
    files: tuple[str, str]
    places: tuple[str, ...]


def quoted(cell: str) -> list[str]:
    """Returns what stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def read_tables(page: str) -> list[Line]:
    """Returns the rows of all tables; every table must have the seven columns."""
    rows: list[Line] = []
    files = ("", "")
    for line in page.splitlines():
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == NUM_COLUMNS, line
        if cells[0] == "R1 says":
            files = (quoted(cells[4])[0], quoted(cells[5])[0])
        elif set(cells[0]) != {"-"}:
            rows.append(
                Line(
                    says=cells[0],
                    parameter=quoted(cells[2])[0],
                    paper=cells[3],
                    values=(quoted(cells[4])[0], quoted(cells[5])[0]),
                    files=files,
                    places=tuple(quoted(cells[6])),
                )
            )
    return rows


@cache
def load(file: str) -> Any:
    """Returns a YAML file of the repository; lm-eval's tags are no error."""
    return YAML().load(ROOT / file)


def find(file: str, key: str) -> Any:
    """Returns the value of a dotted key. Raises AssertionError if there is none."""
    value = load(file)
    for part in key.split("."):
        assert isinstance(value, dict), f"{file} has no {key}"
        assert part in value, f"{file} has no {key}"
        value = value[part]
    return value


def compute(file: str, parameter: str) -> Any:
    """Returns the value of a key, or of keys joined by x and /; None if one of these is null."""
    first, *rest = re.split(r" ([x/]) ", parameter)
    value = find(file, first)
    for sign, key in zip(rest[::2], rest[1::2], strict=True):
        factor = find(file, key)
        if value is None or factor is None:
            return None
        value = value * factor if sign == "x" else value / factor
    return value


def is_said(said: str, value: Any) -> bool:
    """Returns whether the text is the value in YAML; one that ends with ... begins a text."""
    if said.endswith("…"):
        return isinstance(value, str) and value.startswith(said.rstrip("… "))
    parsed = YAML(typ="safe").load(said)
    if isinstance(parsed, bool) or isinstance(value, bool):
        return parsed is value
    if isinstance(parsed, int | float) and isinstance(value, int | float):
        return isclose(parsed, value)
    return bool(parsed == value)


@cache
def names_in(file: Path) -> frozenset[str]:
    """Returns the functions and classes of a module, and the annotated fields of its classes."""
    found = set()

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef):
                found.add(prefix + child.name)
                if isinstance(child, ast.ClassDef):
                    visit(child, f"{prefix}{child.name}.")
            elif prefix and isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
                found.add(prefix + child.target.id)

    visit(ast.parse(file.read_text(encoding="utf-8")), "")
    return frozenset(found)


def check_place(place: str) -> None:
    """Checks that `file:function` or `Class.option` is there. Raises AssertionError."""
    path, is_ours, name = place.partition(":")
    if is_ours:
        assert (ROOT / path).is_file(), f"there is no {path}"
        assert name in names_in(ROOT / path), f"{path} has no {name}"
        return
    package, _, rest = OPTIONS[place.partition(".")[0]].partition("/")
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    assert place in names_in(Path(spec.origin).parent / rest), f"{package} has no {place}"


def check(row: Line, items: set[int]) -> None:
    """Checks a row against the files; `items` are the numbers of the page's list."""
    actual = [compute(file, row.parameter) for file in row.files]
    for said, value, file in zip(row.values, actual, row.files, strict=True):
        assert is_said(said, value), f"{row.parameter} is {value!r} in {file}, not {said}"
    assert row.places, f"{row.says}: no place"
    for place in row.places:
        check_place(place)
    cited = {int(number) for number in re.findall(r"\((\d+)\)", row.paper)}
    assert cited <= items, f"{row.says}: no item {sorted(cited - items)}"
    if cited or row.paper == "not published":
        return
    found = re.fullmatch("`([^`]+)`(?: to `([^`]+)`)?", row.paper)
    assert found, f"{row.says}: {row.paper!r} is no value"
    least, most = found.groups()
    if most:
        assert float(least) <= actual[0] <= float(most), f"{row.says}: {actual[0]} is out of range"
    else:
        assert is_said(least, actual[0]), f"{row.says}: {actual[0]} is not {least}, and unexplained"


ROWS = read_tables(PAGE)
ITEMS = [int(number) for number in re.findall(r"^(\d+)\. ", PAGE, re.MULTILINE)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.parameter} ({row.says[:20]})")
def test_row_is_so(row: Line) -> None:
    check(row, set(ITEMS))


def test_items_are_numbered_without_gaps() -> None:
    assert list(range(1, len(ITEMS) + 1)) == ITEMS


def test_published_values_of_both_trainings_are_on_the_page() -> None:
    """Whatever r1-paper takes from a section of R1 for sft or grpo is in a table of r1-paper."""
    named = set()
    for row in ROWS:
        if row.files[0] == "recipes/r1-paper.yaml":
            named |= set(re.split(" [x/] ", row.parameter))
    section, published = "", set()
    for line in RECIPE.read_text(encoding="utf-8").splitlines():
        section = line.partition(":")[0] if re.match(r"\w+:", line) else section
        key = re.match(r"  (\w+): .*# .*R1, ", line)
        if key and section in {"sft", "preference", "grpo"}:
            published.add(f"{section}.{key[1]}")
    assert len(published) > 20
    assert published - named == set()


def test_every_value_of_the_profile_has_its_source() -> None:
    """Every value that changes what is learnt: a section of R1, or that none is published."""
    text = RECIPE.read_text(encoding="utf-8").partition("\n\n")[2]
    marked = [line for line in text.splitlines() if re.search(r"# \[[SN]\]", line)]
    assert len(marked) > 60
    source = r"R1, (\d|[A-F]\.\d|table \d|figure \d|equation \d)|not published|not in R1"
    assert [line for line in marked if not re.search(source, line)] == []


GOOD = (
    "| R1 says | section | parameter | R1 | `recipes/r1-paper.yaml` | `params.yaml` | where |\n"
    "|---|---|---|---|---|---|---|\n"
    "| Clip | 3 | `grpo.epsilon` | `10` | `10.0` | `0.2` | `GRPOConfig.epsilon`, "
    "`stages/grpo/stage.py:to_trl` |\n"
)


def test_good_row_of_the_tests_below() -> None:
    (row,) = read_tables(GOOD)
    check(row, set())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("`grpo.epsilon`", "`grpo.epsilom`", "r1-paper.yaml has no grpo.epsilom"),
        ("`grpo.epsilon`", "`grpo.epsilon.low`", "has no grpo.epsilon.low"),
        ("`10.0`", "`9.0`", "grpo.epsilon is 10.0 in recipes/r1-paper.yaml, not 9.0"),
        ("`0.2`", "`0.3`", "grpo.epsilon is 0.2 in params.yaml, not 0.3"),
        ("`0.2`", "`true`", "grpo.epsilon is 0.2 in params.yaml, not true"),
        ("`0.2`", "`null`", "grpo.epsilon is 0.2 in params.yaml, not null"),
        ("`10` |", "`5` |", "Clip: 10.0 is not 5, and unexplained"),
        ("`10` |", "`11` to `12` |", "Clip: 10.0 is out of range"),
        ("`10` |", "`5` (3) |", "Clip: no item \\[3\\]"),
        ("`10` |", "high |", "Clip: 'high' is no value"),
        ("`GRPOConfig.epsilon`", "`GRPOConfig.epsilom`", "trl has no GRPOConfig.epsilom"),
        (":to_trl", ":to_tlr", "stages/grpo/stage.py has no to_tlr"),
        ("stages/grpo/stage.py", "stages/grpo/stages.py", "there is no stages/grpo/stages.py"),
        ("`GRPOConfig.epsilon`, `stages/grpo/stage.py:to_trl`", "TRL", "Clip: no place"),
    ],
)
def test_wrong_row_is_found(old: str, new: str, message: str) -> None:
    assert GOOD.count(old) == 1
    (row,) = read_tables(GOOD.replace(old, new))
    with pytest.raises(AssertionError, match=message):
        check(row, set())


def test_row_with_a_cell_too_many_is_found() -> None:
    with pytest.raises(AssertionError, match="Clip"):
        read_tables(GOOD.replace("| Clip ", "| Clip | Clip "))


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("sft.learning_rate x sft.min_lr_rate", 5e-6),
        ("grpo.steps_per_generation / grpo.gradient_accumulation_steps", 16),
        ("grpo.epsilon_high x grpo.epsilon", None),
    ],
)
def test_products_and_quotients(parameter: str, value: float | None) -> None:
    computed = compute("recipes/r1-paper.yaml", parameter)
    assert computed is value if value is None else computed == pytest.approx(value)
