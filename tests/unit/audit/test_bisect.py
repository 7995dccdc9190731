"""The first difference between runs whose files are written by hand, and audits of such runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages._audit.audit import audit
from stages._audit.bisect import describe_graphs, find_first_difference, open_run
from tests.git import git

NAMES = ["embed", "layer.0", "norm"]
MODELS = ("base", "sft", "grpo")


def weights(*digests: str) -> dict[str, str]:
    return {"weights": "-".join(digests), "tensors": " ".join(digests)}


def step(number: int, **parts: str) -> dict[str, Any]:
    row = {"step": number, "rollouts": "r", "rewards": "w", "advantages": "a"}
    return row | weights("x", "y", "z") | parts


class Clone:
    """A clone's folder with a run of two stages: `sft`, and `grpo`, which reads it.

    A test may add tracks: `scenarios` of r1, which reads grpo's model, is evaluated, and read by
    `distilled` of distill; and `zero` of r1-zero, which reads nothing of theirs.
    """

    def __init__(self, folder: Path) -> None:
        """Writes nothing yet: a test changes it first."""
        self.folder = folder
        self.lock: dict[str, Any] = {
            name: {
                "cmd": f"python -m stages run {name}",
                "deps": [{"path": path, "md5": path}],
                "params": {"params.yaml": {name: {"seed": 0}}},
                "outs": [{"path": f"artifacts/{name}", "md5": f"{name}-bytes"}],
            }
            # In the lock's order, the stage that reads comes first.
            for name, path in (("grpo", "artifacts/sft"), ("sft", "stages/sft"))
        }
        self.steps = {
            name: [{"step": 0, "names": NAMES, **weights("s", "t", "u")}, step(1), step(2)]
            for name in ("sft", "grpo")
        }
        self.isa, self.accuracy, self.has_results = "avx2", 0.8, True
        self.tracks: dict[str, dict[str, Any]] = {}

    def add_tracks(self) -> None:
        """Adds what the class says."""
        evaluated = "evaluate@scenarios-sums", "evaluate --track r1 --model scenarios --task sums"
        for track, name, command, dep in (
            ("r1", evaluated[0], evaluated[1], "artifacts/r1/scenarios"),
            ("r1", "scenarios", "grpo --track r1 --section scenarios", "artifacts/grpo"),
            ("distill", "distilled", "sft --track distill --section distilled", "artifacts/r1"),
            ("r1-zero", "zero", "grpo --track r1-zero --section zero", "stages/grpo"),
        ):
            self.tracks.setdefault(track, {})[name] = {
                "cmd": f"python -m stages run {command}",
                "deps": [{"path": dep, "md5": dep}],
                "outs": [{"path": f"artifacts/{track}/{name}", "md5": f"{name}-bytes"}],
            }
            words = command.split()
            self.steps["-".join([words[0], *words[2::2]])] = [step(1), step(2)]

    def write(self) -> str:
        """Writes the files, and returns the folder's name."""
        (self.folder / "runs").mkdir(parents=True)
        YAML().dump({"stages": self.lock}, self.folder / "dvc.lock")
        for track, lock in self.tracks.items():
            (self.folder / "tracks" / track).mkdir(parents=True)
            YAML().dump({"stages": lock}, self.folder / f"tracks/{track}/dvc.lock")
        params = {"grpo": {"seed": 0}, "report": {"models": dict.fromkeys(MODELS, "folder")}}
        YAML().dump(params, self.folder / "params.yaml")
        for name, rows in self.steps.items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (self.folder / f"runs/{name}.steps.jsonl").write_text(text)
            run = {"commit": "c", "machine": {"isa": [self.isa]}, "start": "now"}
            (self.folder / f"runs/{name}.json").write_text(json.dumps(run))
        for model in MODELS:
            path = self.folder / f"metrics/evaluate/{model}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"sums": {"accuracy": self.accuracy}}))
        return str(self.folder)

    def other_output(self, *stages: str) -> None:
        for name in stages:
            self.lock[name]["outs"][0]["md5"] = "other"
        if "sft" in stages:
            self.lock["grpo"]["deps"][0]["md5"] = "other"

    def write_results(self) -> None:
        """Writes the table of the tracks' models and the manifest that says who made it."""
        if not self.has_results:
            return
        path = self.folder / "metrics/results/evaluate/scenarios.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"sums": {"accuracy": self.accuracy}}))
        self.steps["report-results-report"] = []

    def commit(self) -> None:
        """Makes all that is here the clone's commit."""
        git(self.folder, "init", "-q")
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "-qm", "recorded")

    def record_seeds(self, *accuracies: float) -> None:
        for seed, value in enumerate(accuracies, start=1):
            path = self.folder / f"metrics/seeds/{seed}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            accuracy = {"sums": dict.fromkeys(MODELS, value)}
            run = {"seed": seed, "accuracy": accuracy, "outs": {"grpo": f"bytes of {value}"}}
            path.write_text(json.dumps(run))


@pytest.fixture
def a(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "a")


@pytest.fixture
def b(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "b")


def explain(a: Clone, b: Clone) -> str:
    found = find_first_difference(*(open_run(a.folder, clone.write()) for clone in (a, b)))
    assert found is not None
    return str(found)


def test_equal_runs_have_no_difference(a: Clone, b: Clone) -> None:
    runs = [open_run(a.folder, clone.write()) for clone in (a, b)]
    assert list(runs[0].lock) == ["sft", "grpo"], "what is read comes first"
    assert find_first_difference(*runs) is None


def test_first_stage_step_and_tensor_are_named(a: Clone, b: Clone) -> None:
    b.other_output("sft", "grpo")
    b.isa = "avx512f"
    b.steps["sft"][2] |= weights("x", "Y", "Z")
    b.steps["grpo"][1]["rollouts"] = "other"
    text = explain(a, b)
    assert text.startswith("stage sft: reads the same, and writes something else")
    assert "step 2: weights, first layer.0 (2 of 3 tensors differ)" in text
    assert "machine.isa ['avx2'] against ['avx512f']" in text
    assert "start" not in text


def test_cause_comes_before_its_effect(a: Clone, b: Clone) -> None:
    """Other rewards make other advantages and weights; the rewards are named."""
    b.other_output("grpo")
    b.steps["grpo"][1] |= {"advantages": "o", "rewards": "o", **weights("X", "Y", "Z")}
    assert 'step 1: rewards, "w" against "o"' in explain(a, b)


def test_changed_inputs_are_named(a: Clone, b: Clone) -> None:
    b.other_output("grpo")
    b.lock["grpo"]["params"]["params.yaml"]["grpo"]["seed"] = 1
    b.steps["grpo"][2]["rollouts"] = "o"
    text = explain(a, b)
    assert text.startswith("stage grpo: reads other params, and writes something else")
    assert 'step 2: rollouts, "r" against "o"' in text


def test_shorter_run_and_missing_steps_are_said(a: Clone, b: Clone) -> None:
    b.other_output("grpo")
    del b.steps["grpo"][2]
    assert "3 steps against 2" in explain(a, b)


def test_output_that_differs_in_no_step(a: Clone, b: Clone) -> None:
    b.other_output("grpo")
    assert "what differs is no step's" in explain(a, b)


def test_tracks_come_after_the_core_one_after_the_other(a: Clone) -> None:
    a.add_tracks()
    folder = open_run(a.folder, a.write())
    a.commit()
    commit = open_run(a.folder, "HEAD")
    assert list(folder.lock) == [
        "sft",
        "grpo",
        "tracks/r1-zero/dvc.yaml:zero",
        "tracks/r1/dvc.yaml:scenarios",
        "tracks/r1/dvc.yaml:evaluate@scenarios-sums",
        "tracks/distill/dvc.yaml:distilled",
    ]
    assert list(commit.lock.items()) == list(folder.lock.items())
    assert find_first_difference(folder, commit) is None
    assert list(describe_graphs(folder, commit)) == [
        "compared: 6 stages of core, r1-zero, r1, distill"
    ]


def test_difference_of_a_track_alone_is_found(a: Clone, b: Clone) -> None:
    for clone in (a, b):
        clone.add_tracks()
    for track, stage in (("r1", "scenarios"), ("distill", "distilled")):
        b.tracks[track][stage]["outs"][0]["md5"] = "other"
    b.steps["grpo-r1-scenarios"][1] |= {"rewards": "o", **weights("X", "Y", "Z")}
    text = explain(a, b)
    assert text.startswith("stage tracks/r1/dvc.yaml:scenarios: reads the same, and writes")
    assert 'runs/grpo-r1-scenarios.steps.jsonl, step 1: rewards, "w" against "o"' in text


def test_evaluation_of_a_track_differs_in_a_response(a: Clone, b: Clone) -> None:
    for clone, text in ((a, "7"), (b, "8")):
        clone.add_tracks()
        path = clone.folder / "metrics/results/report/samples/scenarios/sums.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"id": "sums-0", "responses": [text]}))
    b.tracks["r1"]["evaluate@scenarios-sums"]["outs"][0]["md5"] = "other"
    found = 'scenarios/sums.jsonl, step 0: responses of sums-0, ["7"] against ["8"]'
    assert found in explain(a, b)


def test_tracks_of_one_run_alone_are_not_compared_and_named(a: Clone, b: Clone) -> None:
    b.add_tracks()
    del b.tracks["r1-zero"]
    runs = [open_run(a.folder, clone.write()) for clone in (a, b)]
    assert find_first_difference(*runs) is None
    assert list(describe_graphs(*runs)) == [
        "compared: 2 stages of core",
        f"not compared, since only {b.folder} has run it: r1, distill",
    ]


def test_stage_that_one_run_lacks(a: Clone, b: Clone) -> None:
    del b.lock["grpo"]
    assert "only" in explain(a, b)


def test_folder_that_is_none(a: Clone) -> None:
    with pytest.raises(ValueError, match="git knows no revision 'nowhere'"):
        open_run(a.folder.parent, "nowhere")


def run_audit(a: Clone, b: Clone) -> tuple[bool, str]:
    for clone in (a, b):
        clone.write()
    return audit(a.folder, b.folder)


@pytest.mark.parametrize("name", ["typo", "HEAD"])
def test_audit_of_no_clone_is_refused(a: Clone, name: str) -> None:
    a.write()
    with pytest.raises(ValueError, match=f"^{name} is no folder with a dvc.lock: name the clone"):
        audit(a.folder, Path(name))


def test_audit_of_the_same_bytes(a: Clone, b: Clone) -> None:
    holds, page = run_audit(a, b)
    assert holds
    assert "| grpo | grpo-bytes | grpo-bytes | same |" in page
    assert "L1 holds: the outputs of all 2 stages have the same bytes." in page


@pytest.mark.parametrize(
    ("accuracy", "word", "holds"),
    [(0.82, "equivalent", True), (0.5, "**different**", False), (0.89, "undecided", False)],
)
def test_audit_of_other_bytes(
    a: Clone, b: Clone, accuracy: float, word: str, *, holds: bool
) -> None:
    a.record_seeds(0.78, 0.79, 0.81, 0.82)
    b.other_output("grpo")
    b.steps["grpo"][1] |= weights("X", "y", "z")
    b.accuracy = accuracy
    found, page = run_audit(a, b)
    assert found == holds
    assert "| grpo | grpo-bytes | other | **other** |" in page
    assert "weights, first embed (1 of 3 tensors differ)" in page
    row = next(line for line in page.splitlines() if line.startswith("| sums | grpo |"))
    assert row.startswith(f"| sums | grpo | 80.0 | {100 * accuracy:.1f} |")
    assert row.endswith(f"| {word} |")
    assert ("L2 holds" in page) == holds


def test_audit_compares_other_seeds_byte_by_byte(a: Clone, b: Clone) -> None:
    a.record_seeds(0.78, 0.79, 0.81)
    b.record_seeds(0.78, 0.80)
    holds, page = run_audit(a, b)
    assert "Seed 1: the same bytes.\nSeed 2: **other bytes**.\nL1 does not hold" in page
    assert holds, "by L2"


def test_recorded_seeds_are_no_runs_of_the_clone(a: Clone, b: Clone) -> None:
    """They are in git, and so in each clone: nobody has run them there."""
    for clone in (a, b):
        clone.record_seeds(0.78, 0.79, 0.81, 0.82)
    b.commit()
    b.other_output("grpo")
    b.accuracy = 0.5
    holds, page = run_audit(a, b)
    assert "Seed 1" not in page
    assert "| sums | grpo | 80.0 | 50.0 |" in page, "four recorded runs would make it 74.0"
    assert not holds


def test_seeds_that_the_clone_ran_count_beside_the_recorded(a: Clone, b: Clone) -> None:
    for clone in (a, b):
        clone.record_seeds(0.78, 0.79, 0.81)
    b.commit()
    b.record_seeds(0.78, 0.80)  # seed 1 is the commit's to the byte, as no run can be
    _, page = run_audit(a, b)
    assert "\nSeed 2: **other bytes**.\n" in page
    assert "Seed 1" not in page
    assert "Seed 3" not in page
    assert "| sums | grpo | 79.5 | 80.0 |" in page


def test_audit_of_another_recipe_is_refused(a: Clone, b: Clone) -> None:
    b.other_output("grpo")
    b.lock["grpo"]["params"]["params.yaml"]["grpo"]["seed"] = 1
    with pytest.raises(ValueError, match="ran another recipe: grpo read other params"):
        run_audit(a, b)


def test_audit_without_recorded_seeds_says_what_is_missing(a: Clone, b: Clone) -> None:
    b.other_output("grpo")
    b.steps["grpo"][1] |= weights("X", "y", "z")
    holds, page = run_audit(a, b)
    assert not holds
    assert "weights, first embed" in page
    assert "L2 needs recorded runs with other seeds in metrics/seeds, and there are none" in page


def test_clone_in_which_nothing_ran_is_refused(a: Clone, b: Clone) -> None:
    for clone in (a, b):
        clone.write()
    b.commit()
    with pytest.raises(ValueError, match="nothing has run there"):
        audit(a.folder, b.folder)


def audit_after(a: Clone, b: Clone, *stages: str) -> tuple[bool, str]:
    """Returns what the audit finds after these stages, by their runs' names, have run in b."""
    for clone in (a, b):
        clone.write_results()
        clone.write()
    b.commit()
    for stage in stages:
        path = b.folder / f"runs/{stage}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"start": "later"}))
    return audit(a.folder, b.folder)


def test_tracks_that_have_not_run_again_are_not_judged(a: Clone, b: Clone) -> None:
    for clone in (a, b):
        clone.add_tracks()
    holds, page = audit_after(a, b, "sft", "grpo")
    assert holds
    assert "| grpo | grpo-bytes | grpo-bytes | same |" in page
    assert "scenarios" not in page
    assert "L1 holds: the outputs of all 2 stages have the same bytes." in page
    assert "The tracks have not run again there, and are not judged." in page


def test_stages_that_have_not_run_again_are_named(a: Clone, b: Clone) -> None:
    for clone in (a, b):
        clone.add_tracks()
    names = "grpo", "grpo-r1-scenarios", "evaluate-r1-scenarios-sums", "grpo-r1-zero-zero"
    holds, page = audit_after(a, b, *names)
    assert holds
    assert "| sft | sft-bytes | sft-bytes | not run again |" in page
    found = "ran again, and their outputs have the same bytes; not run again:"
    assert f"L1 holds: of 2 stages 1 {found} sft.\n" in page
    last = "tracks/distill/dvc.yaml:distilled.\n"
    assert f"L1 holds for the tracks: of 4 stages 3 {found} {last}" in page


def test_tracks_without_a_table_of_all_have_no_seeds(a: Clone, b: Clone) -> None:
    for clone in (a, b):
        clone.add_tracks()
        clone.has_results = False
    b.tracks["distill"]["distilled"]["outs"][0]["md5"] = "other"
    holds, page = audit_after(a, b, "sft-distill-distilled")
    assert not holds
    assert "The core graph has not run again there, and is not judged." in page
    assert "L1 does not hold for the tracks. The first difference:\n\nstage tracks/dis" in page


def test_other_bytes_of_a_track_are_named(a: Clone, b: Clone) -> None:
    for clone in (a, b):
        clone.add_tracks()
    b.tracks["r1"]["scenarios"]["outs"][0]["md5"] = "other"
    holds, page = audit_after(a, b, "grpo", "grpo-r1-scenarios")
    assert not holds
    assert "| tracks/r1/dvc.yaml:scenarios | scenarios-by | other | **other** |" in page
    assert "L1 holds: " in page
    assert "L1 does not hold for the tracks. The first difference:\n\nstage tracks/r1/" in page
    assert "L2 needs recorded runs with other seeds in metrics/results/seeds" in page
