"""A drawing of a graph: layers in the direction of the work, each node beside what it needs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from math import floor
from statistics import fmean
from typing import TYPE_CHECKING

import networkx as nx

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

HEIGHT = 52  # of a box, in pixels
_LETTERS, _PADDING = (7.6, 6.3), 24  # of a label and a note, and beside them
_WIDTHS = 116, 176
_ALONG, _ACROSS = {True: 24, False: 34}, {True: 22, False: 20}  # between boxes, by is_wide
_MARGIN = 6
_NUM_SWEEPS = 12


@dataclass(frozen=True, slots=True)
class Box:
    """Where a node is: the upper left corner of its box."""

    name: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes in the order of the work, and the edges' paths in SVG's language."""

    box_width: float
    width: float
    height: float
    boxes: list[Box]
    edges: list[str]


def draw(
    needs: Mapping[str, Collection[str]], texts: Mapping[str, Sequence[str]], *, is_wide: bool
) -> Drawing:
    """Returns the drawing of a graph without cycles; edges that others imply are left out.

    Args:
        needs: by node, in the order of the work, the nodes that it needs; names of no node of the
            graph are passed over.
        texts: each box's label and note.
        is_wide: from left to right; else from top to bottom, for narrow screens.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(needs)
    graph.add_edges_from((a, b) for b, found in needs.items() for a in found if a in needs)
    edges = sorted(nx.transitive_reduction(graph).edges, key=lambda e: _rank(e, needs))
    layers = _find_layers(list(needs), edges)
    rows, chains = _fill_layers(layers, edges)
    longest = max(
        len(text) * letter
        for found in texts.values()
        for text, letter in zip(found, _LETTERS, strict=True)
    )
    width = min(max(_WIDTHS[0], longest + _PADDING), _WIDTHS[1])
    across = _find_places(rows, chains, (HEIGHT if is_wide else width) + _ACROSS[is_wide])
    along = (width if is_wide else HEIGHT) + _ALONG[is_wide]
    places = {
        name: (layer * along + _MARGIN, across[name] + _MARGIN)
        for layer, row in enumerate(rows)
        for name in row
    }
    boxes = [Box(name, *(places[name] if is_wide else places[name][::-1])) for name in needs]
    return Drawing(
        box_width=width,
        width=max(x if is_wide else y for x, y in places.values()) + width + _MARGIN,
        height=max(y if is_wide else x for x, y in places.values()) + HEIGHT + _MARGIN,
        boxes=boxes,
        edges=[
            _trace([places[name] for name in chain], width, is_wide=is_wide) for chain in chains
        ],
    )


def _rank(edge: tuple[str, str], needs: Mapping[str, Collection[str]]) -> tuple[int, int]:
    names = list(needs)
    return names.index(edge[0]), names.index(edge[1])


def _find_layers(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Returns each node's layer: behind all that it needs; what needs nothing, before its user."""
    layers = dict.fromkeys(names, 0)
    for name in names:  # in the order of the work
        layers[name] = max([layers[a] + 1 for a, b in edges if b == name], default=0)
    for name in names:
        users = [layers[b] for a, b in edges if a == name]
        if users and not any(b == name for _, b in edges):
            layers[name] = min(users) - 1
    return layers


def _fill_layers(
    layers: Mapping[str, int], edges: Sequence[tuple[str, str]]
) -> tuple[list[list[str]], list[list[str]]]:
    """Returns the layers' nodes, and each edge's, with a point of its own in layers between."""
    rows: list[list[str]] = [[] for _ in range(max(layers.values()) + 1)]
    for name, layer in layers.items():
        rows[layer].append(name)
    chains = []
    for number, (first, last) in enumerate(edges):
        between = range(layers[first] + 1, layers[last])
        points = {layer: f"\0{number}/{layer}" for layer in between}
        for layer, point in points.items():
            rows[layer].append(point)
        chains.append([first, *points.values(), last])
    return rows, chains


def _find_places(
    rows: Sequence[list[str]], chains: Sequence[Sequence[str]], gap: float
) -> dict[str, float]:
    """Returns where each node of a layer is, so that edges are short and few of them cross.

    Each layer is ordered by the mean place of its neighbours (Sugiyama's barycentre), forth and
    back, and its nodes then moved as near to it as the gap allows.
    """
    near: dict[str, list[str]] = defaultdict(list)
    for chain in chains:
        for a, b in pairwise(chain):
            near[a].append(b)
            near[b].append(a)
    places = {name: gap * index for row in rows for index, name in enumerate(row)}
    for sweep in range(_NUM_SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = {
                name: fmean(places[other] for other in near[name]) if near[name] else places[name]
                for name in row
            }
            row.sort(key=lambda name: (wanted[name], places[name]))
            places |= _spread([wanted[name] for name in row], row, gap)
    # On a grid of half gaps: nearly straight lines become straight, and no two nodes meet.
    lowest = min(places.values())
    return {
        name: floor((place - lowest) / (gap / 2) + 0.5) * gap / 2 for name, place in places.items()
    }


def _spread(wanted: Sequence[float], row: Sequence[str], gap: float) -> dict[str, float]:
    """Returns places a gap apart that are, in this order, nearest to those that are wanted.

    Nodes that would be too near to each other form a block, whose mean is where they want it.
    """
    blocks: list[tuple[float, int]] = []  # the first one's place, the number of nodes
    for place in wanted:
        start, size = place, 1
        while blocks and start < blocks[-1][0] + gap * blocks[-1][1]:
            before, count = blocks.pop()
            total = before * count + (start - gap * count) * size
            start, size = total / (count + size), count + size
        blocks.append((start, size))
    found = [start + gap * number for start, size in blocks for number in range(size)]
    return dict(zip(row, found, strict=True))


def _trace(points: Sequence[tuple[float, float]], width: float, *, is_wide: bool) -> str:
    """Returns an edge's path, from the end of its first box through points to its last box."""
    length, middle = (width, HEIGHT / 2) if is_wide else (HEIGHT, width / 2)

    def at(along: float, across: float) -> str:
        return f"{along:.1f} {across:.1f}" if is_wide else f"{across:.1f} {along:.1f}"

    along, across = points[0][0] + length, points[0][1] + middle
    parts = [f"M{at(along, across)}"]
    for index, (x, y) in enumerate(points[1:], 1):
        turn = (along + x) / 2
        y += middle  # noqa: PLW2901 - the middle of the box
        parts.append(f"C{at(turn, across)} {at(turn, y)} {at(x, y)}")
        along, across = x, y
        if index < len(points) - 1:
            along = x + length
            parts.append(f"L{at(along, across)}")
    return " ".join(parts)
