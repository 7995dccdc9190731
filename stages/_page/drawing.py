"""A graph's picture: its stages, the cells of a matrix as one, and what it needs of others."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import networkx as nx

from stages._page.graph import BEHIND, CHANGED, CORE, CURRENT, NEVER
from stages._page.layout import Drawing, draw
from stages._page.units import show_duration

if TYPE_CHECKING:
    from stages._page.graph import Graph, Stage

SIGNS = {CURRENT: "✓", CHANGED: "●", BEHIND: "◐", NEVER: "○"}
_WORST = (CHANGED, BEHIND, NEVER, CURRENT)
_MAX_LAYERS = 7  # that fit beside each other on a wide screen


@dataclass(frozen=True, slots=True)
class Node:
    """A box: a stage, or several cells that need and are needed by the same."""

    label: str
    note: str
    state: str  # "" for a stage of another graph


@dataclass(frozen=True, slots=True)
class Picture:
    """The boxes' contents by name; wide and tall, for screens; in words, for whoever sees none."""

    nodes: dict[str, Node]
    wide: Drawing
    tall: Drawing
    is_long: bool  # too long to be drawn from left to right
    description: str


def draw_graph(graph: Graph, name: str) -> Picture:
    """Returns the picture of the core, or of a track with the stages of others that it needs."""
    own = [stage.address for stage in graph.of(name)]
    full = nx.DiGraph()
    full.add_nodes_from(graph.stages)
    full.add_edges_from((need, s.address) for s in graph.stages.values() for need in s.needs)
    edges = nx.transitive_reduction(full)
    shown = {*own, *(need for address in own for need in edges.predecessors(address))}
    cells: dict[tuple[object, ...], list[Stage]] = {}
    for address, stage in graph.stages.items():
        if address in shown:
            users = frozenset(edges.successors(address)) & shown
            key = (stage.graph, stage.name.partition("@")[0], stage.needs, users)
            cells.setdefault(key if "@" in stage.name else (address,), []).append(stage)
    names = {stage.address: found[0].address for found in cells.values() for stage in found}
    nodes = {found[0].address: _make_node(found, name) for found in cells.values()}
    needed = {
        address: {names[need] for need in edges.predecessors(address)} if address in own else set()
        for address in nodes
    }
    texts = {node: (found.label, found.note) for node, found in nodes.items()}
    wide, tall = (draw(needed, texts, is_wide=is_wide) for is_wide in (True, False))
    is_long = len({box.x for box in wide.boxes}) > _MAX_LAYERS
    text = ". ".join(_describe(nodes, node, needed[node]) for node in nodes)
    return Picture(nodes, wide, tall, is_long, f"{text}.")


def _make_node(cells: list[Stage], graph: str) -> Node:
    first = cells[0]
    label = _find_common([cell.name for cell in cells]).rstrip("-").replace("@", " ")
    if first.graph != graph:
        where = "the core" if first.graph == CORE else f"track {first.graph}"
        return Node(label, f"of {where}", "")
    states = {cell.state for cell in cells}
    times = [cell.manifest["duration_s"] for cell in cells if cell.manifest]
    state = next(state for state in _WORST if state in states)
    parts = [f"{SIGNS[state]} {show_duration(sum(times)) if times else state}"]
    if len(cells) > 1:
        parts.append(f"×{len(cells)}")
    elif first.kind != first.name:
        parts.append(first.kind)
    return Node(label, " · ".join(parts), state)


def _find_common(names: list[str]) -> str:
    """Returns what all the names begin with."""
    first, last = min(names), max(names)
    return "".join(
        a for a, b in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    )


def _describe(nodes: dict[str, Node], name: str, needs: set[str]) -> str:
    node = nodes[name]
    text = f"{node.label}: {node.state or node.note}"
    after = ", ".join(sorted(nodes[need].label for need in needs))
    return f"{text}, after {after}" if after else text
