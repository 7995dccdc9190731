"""What the page says of stages: in a clone of this repository, without artifacts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stages._page.drawing import draw_graph
from stages._page.graph import BEHIND, CHANGED, CORE, CURRENT, NEVER, Graph, read_graph
from tests.git import git


def test_what_is_recorded_is_up_to_date_though_artifacts_are_absent(recorded: Graph) -> None:
    core = recorded.of(CORE)
    assert {stage.name: stage.state for stage in core} == {stage.name: CURRENT for stage in core}
    assert len(core) == 13
    assert [stage.name for stage in core if stage.is_here] == ["report"]
    assert {stage.again for stage in core} == {None}
    assert all(stage.manifest for stage in core)
    (sft,) = (stage for stage in core if stage.name == "sft")
    assert sft.needs == ("fetch", "filter")
    assert [out.path for out in sft.outs] == ["artifacts/sft", "metrics/sft.json"]
    assert [out.is_here for out in sft.outs] == [False, True]


def test_each_stage_comes_after_those_it_needs_and_the_core_first(recorded: Graph) -> None:
    seen: set[str] = set()
    for address, stage in recorded.stages.items():
        assert set(stage.needs) <= seen
        seen.add(address)
    assert recorded.names[0] == CORE
    assert {"r1", "r1-zero", "distill", "results"} <= set(recorded.names)


def test_change_of_a_value_is_named_with_both_values_and_reaches_what_follows(
    duplicate: Path,
) -> None:
    path = duplicate / "params.yaml"
    text = path.read_text("utf-8")
    path.write_text(re.sub(r"(?m)^  beta: 0\.001 ", "  beta: 0.04 ", text), "utf-8")
    states = {stage.name: stage for stage in read_graph(duplicate, "HEAD").of(CORE)}
    assert states["grpo"].state == CHANGED
    assert states["grpo"].reasons == ("grpo.beta: 0.001 → 0.04",)
    assert states["evaluate@grpo-arithmetic"].state == BEHIND
    assert states["report"].state == BEHIND
    assert states["sft"].state == CURRENT
    assert states["evaluate@sft-arithmetic"].state == CURRENT


def test_change_of_code_and_of_a_result_is_named(duplicate: Path) -> None:
    for name in ("stages/filter/select.py", "metrics/sft.json"):
        with (duplicate / name).open("a", encoding="utf-8") as file:
            file.write("\n")
    states = {stage.name: stage for stage in read_graph(duplicate, "HEAD").of(CORE)}
    assert states["filter"].reasons == ("stages/filter is modified",)
    assert states["sft"].reasons == ("metrics/sft.json is modified",)
    assert states["generate"].state == CURRENT


def test_what_has_run_again_since_a_commit_says_what_it_read_otherwise(duplicate: Path) -> None:
    lock = duplicate / "dvc.lock"
    text = lock.read_text("utf-8")
    lock.write_text(text.replace("beta: 0.001", "beta: 0.002"), "utf-8")
    git(duplicate, "commit", "-qam", "another run")
    lock.write_text(text, "utf-8")
    again = {stage.name: stage.again for stage in read_graph(duplicate, "HEAD").of(CORE)}
    assert again["grpo"] == ("params",)
    assert {name for name, why in again.items() if why} == {"grpo"}
    first = {stage.name: stage.again for stage in read_graph(duplicate, "HEAD~1").of(CORE)}
    assert set(first.values()) == {None}


def test_what_was_never_run_says_so(duplicate: Path) -> None:
    for lock in ("dvc.lock", *(p.as_posix() for p in duplicate.glob("tracks/*/dvc.lock"))):
        (duplicate / lock).unlink()
    stages = read_graph(duplicate, "HEAD").stages.values()
    assert {stage.state for stage in stages} == {NEVER}
    assert {stage.reasons for stage in stages} == {()}


def test_picture_joins_the_cells_of_a_matrix_and_leaves_out_implied_edges(recorded: Graph) -> None:
    picture = draw_graph(recorded, CORE)
    labels = [node.label for node in picture.nodes.values()]
    assert labels.count("evaluate grpo") == 1
    assert len(labels) == 10
    assert len(picture.wide.boxes) == len(picture.tall.boxes) == 10
    # fetch and prompts to generate and to base's evaluation, then one or two each.
    assert len(picture.wide.edges) == 4 + 2 + 2 + 1 + 3
    assert "filter: up to date, after generate. " in picture.description
    assert "report: up to date, after evaluate base, evaluate grpo, evaluate sft" in (
        picture.description
    )
    assert re.search(r"✓ [\d.]+ min · ×2", picture.nodes["evaluate@base-arithmetic"].note)


def test_picture_of_a_track_shows_what_it_needs_of_others(recorded: Graph) -> None:
    picture = draw_graph(recorded, "distill")
    notes = {node.label: node.note for node in picture.nodes.values() if not node.state}
    assert notes == {"reasoning_samples": "of track r1"}


@pytest.mark.parametrize("name", ["core", "r1", "r1-zero", "distill", "results"])
def test_no_two_boxes_overlap(recorded: Graph, name: str) -> None:
    picture = draw_graph(recorded, name)
    for drawing in (picture.wide, picture.tall):
        for index, box in enumerate(drawing.boxes):
            assert 0 <= box.x <= drawing.width - drawing.box_width
            for other in drawing.boxes[:index]:
                is_apart = abs(box.x - other.x) > drawing.box_width or abs(box.y - other.y) > 52
                assert is_apart, (box, other)
