"""Writes what the code itself says into the reference: help texts, parameters, metrics.

A page holds a comment `<!-- generated: WHAT -->` in the place.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
_PLACE = re.compile(r"(?m)^<!-- generated: (.*) -->$")
_KEY = re.compile(r"( *)([\w-]+): *(.*?)(?: +# (.*))?")
_ROLE = re.compile(r"\[([SNF])\] ?")
_ROLES = {"S": "scientific", "N": "nuisance", "F": "fixed"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Returns the page with what the code says in the places for it."""
    return _PLACE.sub(lambda place: _generate(place[1]), markdown)


def _generate(kind: str) -> str:
    if kind == "help":
        return "\n".join([show_help(), *_list_commands()])
    if kind == "params":
        return list_params((ROOT / "params.yaml").read_text("utf-8"))
    if kind == "metrics":
        return list_metrics()
    raise ValueError(f"{kind!r} cannot be generated: help, params and metrics can")


def show_help(*command: str) -> str:
    """Returns the help text of `python -m stages COMMAND` as a block."""
    done = subprocess.run(  # noqa: S603 - this repository's own command
        [sys.executable, "-m", "stages", *command, "--help"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
        env={"COLUMNS": "100"},
    )
    return f"```text\n{done.stdout}```"


def _list_commands() -> Iterator[str]:
    """Yields a section for each command that has a help text of its own."""
    names = re.findall(r"\{([\w,]+)\}", show_help())[0].split(",")
    # What follows `controller` is DVC's, `--help` too.
    for name in sorted(set(names) - {"controller"}):
        yield f"\n## {name}\n\n{show_help(name)}"


def list_params(text: str) -> str:
    """Returns a table per section of params.yaml: key, value, role and what its comment says."""
    lines: list[str] = []
    for key, value, comment in _keys(text):
        if "." not in key:
            note = f"\n{comment[0].upper()}{comment[1:]}.\n" if comment else ""
            lines += [f"\n## {key}\n{note}", "| key | value | role | what |", "|---|---|---|---|"]
            continue
        role = _ROLE.search(comment)
        what = _ROLE.sub("", comment, count=1).replace("|", "\\|")
        name = key.partition(".")[2]
        cells = (
            f"`{name}`{{ #{key} }}",
            f"`{value}`" if value else "",
            _ROLES[role[1]] if role else "",
            re.sub(r"[<>]", lambda sign: {"<": "&lt;", ">": "&gt;"}[sign[0]], what),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _keys(text: str) -> Iterator[tuple[str, str, str]]:
    """Yields the dotted key, the value and the comment of each line of params.yaml that has one."""
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = _KEY.fullmatch(line)
        if not found:
            continue
        indent, name, value, comment = len(found[1]), found[2], found[3], found[4] or ""
        if value.startswith("#"):
            value, comment = "", value[1:].strip()
        parents = [parent for parent in parents if parent[0] < indent] + [(indent, name)]
        yield ".".join(name for _, name in parents), value, comment


def list_metrics() -> str:
    """Returns a table of each metric's name and recorded value, per file of metrics/.

    Those of the core come first, then the tracks'; not the runs with other seeds.
    """
    lines: list[str] = []
    folder = ROOT / "metrics"
    tracks = [folder / path.parent.name for path in sorted(ROOT.glob("tracks/*/dvc.yaml"))]
    graphs = [part for graph in (folder, *tracks) for part in (graph, graph / "evaluate")]
    for path in [path for graph in graphs for path in sorted(graph.glob("*.json"))]:
        lines += [f"\n## metrics/{path.relative_to(folder)}\n", "| metric | value |", "|---|---:|"]
        for name, value in _leaves(json.loads(path.read_text("utf-8"))):
            lines.append(
                f"| `{name}` | {value:.6g} |"
                if isinstance(value, float)
                else f"| `{name}` | {value} |"
            )
    return "\n".join(lines)


def _leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields each value that is no mapping, with its dotted name."""
    if not isinstance(tree, dict):
        yield name, tree
        return
    for key, value in tree.items():
        yield from _leaves(value, f"{name}.{key}" if name else key)
