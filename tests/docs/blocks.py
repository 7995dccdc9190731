"""The pages' blocks of commands, and how each is tested.

The line before a block says it: `<!-- commands: HOW -->`, for all its commands, or one HOW for
each, with semicolons between. HOW is

- `run`: run in a copy of this repository, whose artifacts are not there;
- `cluster`: it would submit jobs; their scripts are rendered instead;
- `tests/FILE.py::TEST`: that test runs it, or what it runs.

A block of `console` holds commands after `$ ` and what they print, which is compared; a line `...`
stands for any lines, and … for any text within one. The pages of docs/how-to are run whole, in
order, block by block.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SKIPPED = {"CHANGELOG.md", "docs/log.md", "metrics/report/results.md"}  # they tell what was
RUN_WHOLE = "docs/how-to/"
COMMANDS = ("sh", "console", "bash", "shell")
_BLOCK = re.compile(
    r"(?ms)^(?:<!-- commands: (?P<how>[^\n]*) -->\n)?"
    r"(?P<fence>```+|~~~+)(?P<language>\w+)(?: title=\"(?P<title>[^\"\n]+)\")?\n"
    r"(?P<text>.*?)^(?P=fence)$"
)
_HERE = re.compile(r"<<'?(\w+)'?")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    how: list[str]
    language: str
    title: str | None
    text: str

    def __str__(self) -> str:
        """Returns where it is."""
        return f"{self.page}:{self.line}"

    def read_commands(self) -> list[tuple[str, str | None]]:
        """Returns each command with what it prints, None where the page does not say."""
        if self.language == "console":
            found = re.split(r"(?m)^\$ ", self.text)
            assert found[0] == "", f"{self} begins with no command"
            return [_split_output(command) for command in found[1:]]
        return [(command, None) for command in _split(self.text)]

    def read_ways(self) -> list[tuple[str, str | None, str]]:
        """Returns each command, what it prints and how it is tested."""
        commands = self.read_commands()
        ways = self.how * len(commands) if len(self.how) == 1 else self.how
        assert len(ways) == len(commands), f"{self}: {len(ways)} ways for {len(commands)} commands"
        return [(*command, way) for command, way in zip(commands, ways, strict=True)]


def find_pages() -> list[str]:
    """Returns the pages that tell readers what to type."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True)
    return sorted(set(done.stdout.split()) - SKIPPED)


def read_blocks(page: str) -> Iterator[Block]:
    """Yields the page's blocks that name a language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        yield Block(
            page=page,
            line=text.count("\n", 0, found.start("fence")) + 1,
            how=[way.strip() for way in (found["how"] or "").split(";") if way.strip()],
            language=found["language"],
            title=found["title"],
            text=found["text"],
        )


def run(command: str, folder: Path, *, may_fail: bool = False) -> str:
    """Returns what bash prints for a command of the page, with this environment's Python first."""
    environment = Path(sys.prefix, "bin")
    env = {**os.environ, "PATH": f"{environment}:{os.environ['PATH']}", "COLUMNS": "100"}
    env |= {"DVC_NO_ANALYTICS": "1", "VIRTUAL_ENV": sys.prefix}
    for role in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{role}_NAME": "a", f"GIT_{role}_EMAIL": "a@b.example"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert may_fail or done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def check_output(block: Block, command: str, expected: str | None, printed: str) -> None:
    """Checks that a command prints what the page says."""
    if expected is None:
        return
    parts = [re.escape(part) for part in re.split(r"(?m)^\.\.\.\n", expected)]
    pattern = "(?s:.*?)".join(part.replace("…", ".*?") for part in parts)
    if not re.fullmatch(pattern, printed):
        assert printed == expected, f"{block}: {command}"


def _split(text: str) -> list[str]:
    """Returns the commands of a script: lines, but for continued ones and documents in place."""
    commands: list[str] = []
    unfinished, end = "", None
    for line in text.splitlines():
        unfinished += f"{line}\n"
        here = _HERE.search(line)
        end = here[1] if here else end
        if line == end:
            end = None
        if end is None and not line.endswith("\\"):
            commands.append(unfinished)
            unfinished = ""
    assert not unfinished, f"unfinished: {unfinished}"
    return [command for command in commands if command.strip() and not command.startswith("#")]


def _split_output(text: str) -> tuple[str, str]:
    """Returns a command of a console, which may go on after `> `, and what it prints."""
    lines = text.splitlines(keepends=True)
    number = 1
    while number < len(lines) and lines[number].startswith("> "):
        number += 1
    command = lines[0] + "".join(line.removeprefix("> ") for line in lines[1:number])
    return command, "".join(lines[number:])
