"""Writes the page: one file with its styles, script and data, which loads nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stages._audit.git import read_commit
from stages._contract.artifacts import write_whole
from stages._contract.params import load
from stages._page import cost, graph, samples
from stages._page.charts import Ruler
from stages._page.curves import find_logs, read_curves
from stages._page.drawing import SIGNS, draw_graph
from stages._page.funnel import read_funnels
from stages._page.layout import HEIGHT
from stages._page.provenance import read_provenance
from stages._page.results import read_tables
from stages._page.units import show_bytes, show_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stages._page.samples import Source

_HERE = Path(__file__).parent


def write_page(root: Path, out: Path, since: str) -> int:
    """Writes the page of the repository at `root`, and returns its size in bytes.

    It holds no clock's time and no path of this machine: the same files give the same page.

    Args:
        root: the repository's folder.
        out: the file to write.
        since: a commit; stages whose lock is another there are shown as run again.

    Raises:
        ValueError: git knows no such commit, or the file cannot be written there.
    """
    if not (root / "dvc.yaml").is_file():
        raise ValueError(f"{root.resolve()} has no dvc.yaml: run this at the repository's top")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}: create it first")
    text = render_page(root, read_commit(root, since))
    with write_whole(out) as file:
        file.write(text)
    return len(text.encode())


def render_page(root: Path, revision: str) -> str:
    """Returns the page; `revision` is a commit in 40 hex digits."""
    found = graph.read_graph(root, revision)
    tables = read_tables(root)
    logs = find_logs(root, found, tables)
    curves, without_curves = read_curves(root, found, tables)
    rewards = samples.Rewards(root)
    sources, without_samples = samples.read_samples(root, found, tables, rewards)
    style, script = (
        (_HERE / "templates" / name).read_text("utf-8") for name in ("page.css", "page.js")
    )
    context = {
        "recipe": load(root / "params.yaml", "report").recipe,
        "graph": found,
        "pictures": {name: draw_graph(found, name) for name in found.names},
        "tables": tables,
        "curves": curves,
        "without_curves": without_curves,
        "sources": sources,
        "data": pack(sources, rewards),
        "rewards": rewards,
        "without_samples": without_samples,
        "funnels": read_funnels(root, found),
        "costs": cost.read_costs(root, found, logs),
        "provenance": read_provenance(root, found),
        "style": style,
        "script": script,
        "policy": make_policy(style, script),
    }
    return _make_environment().get_template("page.html.j2").render(context)


def make_policy(style: str, script: str) -> str:
    """Returns the Content-Security-Policy: this style and this script, and nothing else."""

    def digest(text: str) -> str:
        found = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return f"'sha256-{found}'"

    return (
        f"default-src 'none'; style-src {digest(style)}; script-src {digest(script)}; "
        f"img-src data:; base-uri 'none'; form-action 'none'"
    )


def pack(sources: Sequence[Source], rewards: samples.Rewards) -> dict[str, Any]:
    """Returns what the script reads: sources with their problems, keys as short as they are many.

    A problem is [task, id, question, answer, responses]; a response [model, text, outcome, tokens,
    rewards in the order of `weights` or null, 1 if it is an answer alone].
    """
    names = list(rewards.weights)
    return {
        "weights": rewards.weights,
        "sources": [
            {
                "title": source.title,
                "models": source.models,
                "pairs": [list(pair) for pair in source.pairs],
                "problems": [
                    [
                        problem["task"],
                        problem["id"],
                        problem["question"],
                        problem["answer"],
                        [_pack_response(entry, names) for entry in problem["responses"]],
                    ]
                    for problem in source.problems
                ],
            }
            for source in sources
        ],
    }


def _pack_response(entry: dict[str, Any], names: Sequence[str]) -> list[Any]:
    found = entry.get("rewards")
    values = [found[name] for name in names] if found else None
    return [
        entry["model"],
        entry["text"],
        entry["outcome"],
        entry["tokens"],
        values,
        int(entry["is_answer"]),
    ]


def _make_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "bytes": show_bytes,
        "duration": show_duration,
        "name": cost.name_graph,
        "percent": lambda share: f"{100 * share:.1f}",
        "signed": lambda share: f"{100 * share:+.1f}".replace("-", "−"),
        "thousands": lambda number: f"{number:,}",
    }
    environment.globals |= {
        "Ruler": Ruler,
        "CORE": graph.CORE,
        "box_height": HEIGHT,
        "SIGNS": SIGNS,
        "STATES": {
            graph.CURRENT: "current",
            graph.CHANGED: "changed",
            graph.BEHIND: "behind",
            graph.NEVER: "never",
        },
        "CORE_W": cost.CORE_W,
        "MEMORY_W_PER_GB": cost.MEMORY_W_PER_GB,
    }
    return environment
