"""Draws the pages' Mermaid flowcharts by Graphviz when the site is built.

Mermaid itself is a script of 3.5 MB that a browser would fetch from elsewhere. Only what the pages
use is understood: `flowchart TD` or `LR`, with lines `a --> b` and `a["text"]`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

_BLOCK = re.compile(r"(?ms)^```mermaid\n(.*?)^```$")
_LINE = re.compile(r'  (\w+)(?:\["([^"]+)"\])?(?: --> (\w+)(?:\["([^"]+)"\])?)?')
# Colours and the font are style.css's.
_STYLE = """\
  bgcolor=transparent; ranksep=0.35; nodesep=0.2;
  node [shape=box, style=rounded, height=0.35, margin="0.12,0.05"];
  node [fontname="Helvetica", fontsize=12];
  edge [arrowsize=0.6];
"""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Returns the page with drawings in the place of its flowcharts."""
    return _BLOCK.sub(lambda block: _draw(block[1]), markdown)


def _draw(text: str) -> str:
    """Returns the flowchart as an SVG figure."""
    if not shutil.which("dot"):
        raise ValueError("Graphviz's `dot` is missing, which draws the pages' graphs: install it")
    first, *lines = text.splitlines()
    nodes, edges, names = [], [], set()
    for line in lines:
        found = _LINE.fullmatch(line)
        if not found:
            raise ValueError(f"{line!r} is no line that docs/site/diagrams.py can draw")
        for name, label in (found.groups()[:2], found.groups()[2:]):
            if label:
                nodes.append(f'  {name} [label="{label}"];')
            names |= {name} - {None}
        if found[3]:
            edges.append(f"  {found[1]} -> {found[3]};")
    graph = "\n".join([f"digraph {{ rankdir={first.split()[1]};", _STYLE, *nodes, *edges, "}"])
    done = subprocess.run(["dot", "-Tsvg"], input=graph, text=True, capture_output=True, check=True)  # noqa: S607 - Graphviz's
    svg = done.stdout[done.stdout.index("<svg") :]
    label = f"A graph of {len(names)} nodes and {len(edges)} arrows"
    svg = re.sub(r"(?s)<title>.*?</title>|<!--.*?-->", "", svg).replace("\n", "")
    return f'<figure class="graph" role="img" aria-label="{label}">{svg}</figure>'
