"""Files and functions are as short as CONTRIBUTING.md asks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.git import git

ROOT = Path(__file__).parents[2]
MAX_FILE, MAX_FUNCTION = 500, 60


def find_long(name: str, text: str) -> Iterator[str]:
    """Yields what is too long of a file; cases above a test are data, and no lines of it."""
    num = len(text.splitlines())
    if num > MAX_FILE:
        yield f"{name} has {num} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno
            num = node.end_lineno - node.lineno + 1
            if num > MAX_FUNCTION:
                yield f"{name}: {node.name} has {num} lines"


def test_files_and_functions_are_short() -> None:
    listing = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "*.py")
    files = [ROOT / name for name in listing.splitlines() if (ROOT / name).is_file()]
    names = [file.relative_to(ROOT).as_posix() for file in files]
    assert {name.partition("/")[0] for name in names} >= {"stages", "tests", "noxfile.py"}
    texts = [file.read_text(encoding="utf-8") for file in files]
    found = {line for pair in zip(names, texts, strict=True) for line in find_long(*pair)}
    assert found == set()


def test_what_is_a_line_too_long_is_found() -> None:
    body = "    x = 1\n" * MAX_FUNCTION
    nested = f"class C:\n  async def g(self):\n{body}"
    assert list(find_long("a.py", body.replace("    ", ""))) == []
    assert list(find_long("a.py", f"def f():\n{body[10:]}")) == []
    assert list(find_long("a.py", f"@a(\n1)\ndef f():\n{body}")) == ["a.py: f has 61 lines"]
    assert list(find_long("a.py", nested)) == ["a.py: g has 61 lines"]
    assert list(find_long("a.py", "\n" * (MAX_FILE + 1))) == ["a.py has 501 lines"]
