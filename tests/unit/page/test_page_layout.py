"""Drawings of graphs: values by hand, and what holds for any."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from stages._page.layout import HEIGHT, draw


def test_chain_from_left_to_right_is_straight() -> None:
    texts = {name: (name, "1 s") for name in "abc"}
    drawing = draw({"a": (), "b": ("a",), "c": ("a", "b", "elsewhere")}, texts, is_wide=True)
    assert drawing.box_width == 116
    assert [(box.name, box.x, box.y) for box in drawing.boxes] == [
        ("a", 6, 6),
        ("b", 146, 6),
        ("c", 286, 6),
    ]
    # From a to c is implied by the others.
    assert drawing.edges == [
        "M122.0 32.0 C134.0 32.0 134.0 32.0 146.0 32.0",
        "M262.0 32.0 C274.0 32.0 274.0 32.0 286.0 32.0",
    ]
    assert (drawing.width, drawing.height) == (408, 64)


def test_chain_from_top_to_bottom() -> None:
    texts = {name: (name, "1 s") for name in "ab"}
    drawing = draw({"a": (), "b": ("a",)}, texts, is_wide=False)
    assert [(box.x, box.y) for box in drawing.boxes] == [(6, 6), (6, 92)]
    assert drawing.edges == ["M64.0 58.0 C64.0 75.0 64.0 75.0 64.0 92.0"]


def test_boxes_are_as_wide_as_their_texts_up_to_a_limit() -> None:
    def width_of(label: str, note: str) -> float:
        return draw({"a": ()}, {"a": (label, note)}, is_wide=True).box_width

    assert width_of("a" * 18, "") == 18 * 7.6 + 24
    assert width_of("a", "b" * 20) == 20 * 6.3 + 24
    assert width_of("a" * 90, "") == 176


def test_source_stands_before_what_needs_it() -> None:
    needs: dict[str, tuple[str, ...]] = {"a": (), "b": ("a",), "late": (), "c": ("b", "late")}
    texts = {name: (name, "") for name in needs}
    boxes = {box.name: box for box in draw(needs, texts, is_wide=True).boxes}
    assert boxes["late"].x == boxes["b"].x < boxes["c"].x


graphs = st.lists(st.sets(st.integers(0, 11), max_size=3), min_size=1, max_size=12)


@given(graphs, st.booleans())
def test_boxes_are_apart_and_edges_lead_onward(
    needs: list[set[int]],
    is_wide: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    graph = {str(n): {str(m) for m in found if m < n} for n, found in enumerate(needs)}
    drawing = draw(graph, {name: (name, "") for name in graph}, is_wide=is_wide)
    assert [box.name for box in drawing.boxes] == list(graph)
    for index, box in enumerate(drawing.boxes):
        assert 0 <= box.x <= drawing.width - drawing.box_width
        assert 0 <= box.y <= drawing.height - HEIGHT
        for other in drawing.boxes[:index]:
            assert abs(box.x - other.x) > drawing.box_width or abs(box.y - other.y) > HEIGHT
    places = {box.name: box for box in drawing.boxes}
    for name, found in graph.items():
        for need in found:
            before, after = places[need], places[name]
            assert before.x < after.x if is_wide else before.y < after.y
    for edge in drawing.edges:
        numbers = [float(number) for number in re.findall(r"[\d.]+", edge)]
        along = numbers[0::2] if is_wide else numbers[1::2]
        assert along[0] < along[-1]
