"""The curves that are shipped are those of the recorded runs, and hold for their recipe alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from stages._audit.published import flatten
from stages._audit.seeds import ALL_TRACKS, CORE, keep_logs
from stages._live.reference import (
    CURVES,
    dump,
    find_differences,
    leaves,
    list_cells,
    list_params,
    load_reference,
    make_reference,
    path_of,
    seeds_of,
    update_references,
)
from stages._live.rows import Entry, write_entry
from stages._live.track import draw_sparkline, render
from stages._live.watcher import Watcher
from tests.repository import change

ROOT = Path(__file__).parents[3]
COMMIT = json.loads((ROOT / "runs/sft.json").read_text("utf-8"))["commit"][:7]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Returns the parameters and the committed run, without what other seeds have left."""
    for name in ("params.yaml", "runs/sft.json", "runs/grpo.json", "metrics/report"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the curves that `root` has with four other seeds."""
    root = tmp_path_factory.mktemp("recorded")
    for name in ("params.yaml", "runs", "metrics/report"):
        (root / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    add_seeds(root, 4)
    list(update_references(root, write=True))
    return root / CURVES


@pytest.fixture
def banded(root: Path, recorded: Path) -> Path:
    """Returns `root` with those curves."""
    shutil.copytree(recorded, root / CURVES)
    return root


def add_seeds(root: Path, num: int) -> None:
    """Adds logs like the committed one, whose figures differ a little from seed to seed."""
    lines = (ROOT / "metrics/report/sft.csv").read_text(encoding="utf-8").splitlines()
    names = lines[0].split(",")
    for seed in range(1, num + 1):
        (root / f"metrics/seeds/{seed}").mkdir(parents=True)
        rows = [dict(zip(names, map(float, line.split(",")), strict=True)) for line in lines[1:]]
        for row in rows:
            row |= {name: row[name] * (1 + 0.01 * seed) for name in ("loss", "entropy")}
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (root / f"metrics/seeds/{seed}/sft.jsonl").write_text(text, encoding="utf-8")


def test_shipped_curves_are_those_of_the_recorded_runs() -> None:
    found = dict(update_references(ROOT, write=False))
    assert all(found.values()), "`python -m stages reference --write` makes them anew"
    names = {path.stem for path in found}
    assert {"sft", "grpo"} <= names


def test_committed_run_alone_has_no_bands(root: Path) -> None:
    made = make_reference(root, "grpo", {})
    assert made
    assert (made.seeds, made.has_bands, made.false_alarms) == ([0], False, None)
    assert made.steps == list(range(1, 13))
    # Two rows are smoothed into one: 0.421875 and 0.75 are the first rewards of the recorded run.
    assert made.figures["reward"].mean[:2] == [0.421875, (0.421875 + 0.75) / 2]
    assert set(made.figures) == {
        *("reward", "kl", "completion_length", "entropy", "answer_accuracy", "answer_format")
    }
    assert made.params["grpo.learning_rate"] == 1.5e-5
    assert not made.params.keys() & {"grpo.seed", "grpo.num_threads", "sft.image"}


def test_other_seeds_make_bands_that_a_file_keeps(banded: Path) -> None:
    root = banded
    assert [is_same for _, is_same in update_references(root, write=False)] == [False, True]
    add_seeds(root, 4)
    assert [is_same for _, is_same in update_references(root, write=False)] == [True, True]
    found = load_reference(root, "sft", {})
    assert found
    assert (found.seeds, found.has_bands, found.false_alarms) == ([0, 1, 2, 3, 4], True, 0)
    path = path_of(root, "smollm2-cpu", "sft")
    assert json.loads(path.read_text(encoding="utf-8")) == dump(found)


def test_curves_end_with_the_shortest_run(root: Path) -> None:
    """Another seed may leave another number of traces; the last step is logged in any case."""
    add_seeds(root, 3)
    path = root / "metrics/seeds/2/sft.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[-2]["step"] = rows[-1]["step"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    found = make_reference(root, "sft", {})
    assert found
    assert found.steps == list(range(1, len(rows) - 1))
    assert {len(band.mean) for band in found.figures.values()} == {len(rows) - 2}
    assert found.has_bands


def test_seed_with_other_steps_is_refused(root: Path) -> None:
    add_seeds(root, 1)
    path = root / "metrics/seeds/1/sft.jsonl"
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    with pytest.raises(ValueError, match="sft with seed 1 has other steps than the committed"):
        make_reference(root, "sft", {})


def test_what_differs_is_named_and_what_does_not_matter_is_not(root: Path) -> None:
    before = list_params(root, "grpo", {})
    change(root, {"grpo.seed": 5, "sft.num_threads": 1, "grpo.save_steps": 3})
    assert find_differences(before, list_params(root, "grpo", {})) == []
    change(root, {"sft.learning_rate": 1.0, "grpo.rewards": {"answer_accuracy": 1.0}})
    assert find_differences(before, list_params(root, "grpo", {})) == [
        "sft.learning_rate is 1.0 and not 3e-05",
        "grpo.rewards.answer_format is not there",
    ]
    assert find_differences({}, {"a": 1}) == ["a is 1, which the reference does not have"]


def test_parameters_of_tracks_are_those_of_all_their_sections() -> None:
    cells = [(stage, cell) for stage, cell in list_cells(ROOT) if cell]
    assert ("grpo", {"track": "r1-zero", "section": "zero"}) in cells
    found = list_params(ROOT, "sft", {"track": "r1", "section": "cold_start"})
    assert found["r1.cold_start.dataset"] == "artifacts/r1/cold_start_data/train.jsonl"
    assert found["sft.learning_rate"] == 3e-5  # what the section is laid over
    assert any(key.startswith("r1.reasoning_rl.") for key in found)


def test_seeds_are_looked_for_where_they_are_recorded() -> None:
    assert [seeds_of(is_core=is_core) for is_core in (True, False)] == [
        CORE.folder,
        ALL_TRACKS.folder,
    ]


def test_empty_mapping_is_a_parameter_and_no_figure() -> None:
    values = {"a": {"b": 1, "c": {}}}
    assert leaves("x", values) == {"x.a.b": 1, "x.a.c": {}}
    assert flatten("x", values) == {"x.a.b": 1}
    assert (flatten("", {}), flatten("", {"a": {"b": 1}})) == ({}, {"a.b": 1})


def test_logs_of_a_run_with_another_seed_are_kept(root: Path) -> None:
    for name in ("sft", "grpo", "r1/cold_start"):
        (root / "artifacts" / name).mkdir(parents=True)
        (root / "artifacts" / name / "log.jsonl").write_text(f'"{name}"\n')
    section = root / "tracks/r1/params.yaml"
    section.parent.mkdir(parents=True)
    section.write_text("sft: {cold_start: {}}\n")
    keep_logs(root, root / "kept", CORE)
    keep_logs(root, root / "tracks_kept", ALL_TRACKS)
    assert sorted(path.name for path in (root / "kept").iterdir()) == ["grpo.jsonl", "sft.jsonl"]
    (log,) = (root / "tracks_kept").iterdir()
    assert (log.name, log.read_text()) == ("sft-r1-cold_start.jsonl", '"r1/cold_start"\n')


def watch(root: Path, factor: float, num: int = 5) -> tuple[list[str], str]:
    """Returns what is said of a run whose loss is that of the recorded one times a factor."""
    said: list[str] = []
    watcher = Watcher(root, "sft", {}, said.append)
    lines = (ROOT / "metrics/report/sft.csv").read_text(encoding="utf-8").splitlines()
    column = lines[0].split(",").index("loss")
    for step, line in enumerate(lines[1 : num + 1], start=1):
        watcher.add(Entry(step, 0.0, {"loss": factor * float(line.split(",")[column])}))
    watcher.end()
    return said, watcher.verdict


def test_watcher_says_which_figure_has_left_and_how_it_ended(banded: Path) -> None:
    runs = f"5 runs of smollm2-cpu at {COMMIT}"
    good, verdict = watch(banded, 1.02)
    assert good == [f"stayed in all bands of {runs}: see `python -m stages track`"]
    assert verdict == f"on track ({runs})"
    bad, verdict = watch(banded, 9.0)
    assert [line.partition(" of what")[0] for line in bad] == [
        "off track: loss is 11.73, outside since step 1",
        f"left the bands of loss of {runs}: see `python -m stages track`",
    ]
    assert verdict == f"off track: loss ({runs})"


def test_watcher_of_another_recipe_says_so_once_and_does_not_warn(banded: Path) -> None:
    change(banded, {"sft.learning_rate": 1.0, "filter.max_per_prompt": 2})
    said, _ = watch(banded, 9.0)
    (line,) = said
    assert line == (
        "not judged: another recipe than the recorded one: filter.max_per_prompt is 2 and not 4, "
        "and 1 more"
    )


def test_watcher_without_bands_or_curves_is_silent(root: Path) -> None:
    assert watch(root, 9.0) == ([], "")
    list(update_references(root, write=True))
    said, verdict = watch(root, 9.0)
    assert said == []
    assert verdict.startswith("not judged: too few to say how much runs vary: 1 run of smollm2")


def test_track_prints_curves_and_the_verdict(banded: Path) -> None:
    root = banded
    add_seeds(root, 4)
    (root / "artifacts/sft").mkdir(parents=True)
    shutil.copy(root / "metrics/seeds/2/sft.jsonl", root / "artifacts/sft/log.jsonl")
    verdict = render(root, ("sft", {}))
    assert verdict.is_on_track is True
    lines = verdict.text.splitlines()
    assert lines[:2] == [
        "sft: finished, step 13",
        f"on track: 5 runs of smollm2-cpu at {COMMIT}",
    ]
    (loss,) = (line for line in lines if line.startswith("  loss "))
    assert loss.split()[1] == "██▇▅▃▂▂▂▁▁▁▁▁"
    assert "band" in loss


def test_track_takes_the_live_log_while_there_is_work(banded: Path) -> None:
    (banded / "artifacts/sft").mkdir(parents=True)
    (banded / "artifacts/sft/log.jsonl").write_text('{"step": 1, "loss": 1.4}\n')
    (banded / "work/live").mkdir(parents=True)
    for step in range(1, 5):
        write_entry(banded / "work/live/sft.jsonl", Entry(step, 1.0, {"loss": 50.0}))
    assert render(banded, None).text.startswith("sft: finished, step 1\non track: ")
    (banded / "work/sft").mkdir()
    verdict = render(banded, None)
    assert verdict.is_on_track is False
    lines = verdict.text.splitlines()
    assert lines[0] == "sft: running, or ended early, step 4"
    assert lines[1].startswith("off track: loss is 50, outside since step 1 of what 5 runs of")


def test_track_without_a_log_or_of_another_stage_is_one_line(root: Path) -> None:
    with pytest.raises(ValueError, match="there is no log of sft: `dvc repro` runs them"):
        render(root, ("sft", {}))
    with pytest.raises(ValueError, match="filter trains nothing: choose from sft, preference"):
        render(root, ("filter", {}))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([1.0, 1.0], "▁▁"),
        ([0.0, 1.0, 7.0], "▁▂█"),
        ([0.0, float("nan"), 7.0], "▁ █"),
        ([0.0] * 41 + [7.0] * 41, "▁" * 14 + "█" * 14),
    ],
)
def test_sparkline(values: list[float], expected: str) -> None:
    assert draw_sparkline(values) == expected
