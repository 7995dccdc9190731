"""Where a cell's files lie, in the core graph and in a track."""

from __future__ import annotations

from pathlib import Path

from stages._contract.params import load
from stages._contract.places import metrics_of, name_of, out_of

ROOT = Path(__file__).parents[3]
STEP = {"track": "r1", "section": "cold_start"}


def test_core_and_tracks_have_folders_of_their_own() -> None:
    assert out_of("sft", {}) == Path("artifacts/sft")
    assert out_of("sft", STEP) == Path("artifacts/r1/cold_start")
    assert metrics_of("sft", None, {}) == {"sft": Path("metrics/sft.json")}
    assert metrics_of("sft", None, STEP) == {"sft": Path("metrics/r1/cold_start.json")}
    assert name_of("sft", STEP) == "sft-r1-cold_start"


def test_stages_that_say_their_places_are_asked() -> None:
    cell = {"track": "r1", "model": "cold_start", "task": "arithmetic"}
    assert out_of("fetch", {}) == Path("artifacts/base")
    assert out_of("fetch", {"track": "distill", "section": "student"}) == Path(
        "artifacts/distill/student"
    )
    assert out_of("evaluate", cell) == Path("artifacts/r1/evaluate/cold_start/arithmetic")
    assert name_of("evaluate", cell) == "evaluate-r1-cold_start-arithmetic"
    values = load(ROOT / "params.yaml", "report")
    assert out_of("report", {"track": "r1", "section": "report"}) == Path("metrics/r1/report")
    assert metrics_of("report", values, {"track": "r1", "section": "report"}) == {
        "paired": Path("metrics/r1/paired.json"),
        "evaluate/base": Path("metrics/r1/evaluate/base.json"),
        "evaluate/sft": Path("metrics/r1/evaluate/sft.json"),
        "evaluate/grpo": Path("metrics/r1/evaluate/grpo.json"),
    }
