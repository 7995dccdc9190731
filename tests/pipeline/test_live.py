"""Runs that are shown, tracked and held against bands: real training on the tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stages._contract.artifacts import sha256_tree
from stages._live.reference import load_reference, update_references
from stages._live.rows import LiveLog
from tests.repository import call, change, start, wait_for
from tests.training import make_training, read_log

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.pipeline

ROOT = Path(__file__).parents[2]
SEEDS = [str(seed) for seed in range(6)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a repository in which sft runs, and the logs of other seeds with their bands."""
    repo = tmp_path_factory.mktemp("live") / "repo"
    repo.mkdir()
    make_training(repo)
    change(repo, {"sft.num_train_epochs": 2.0, "report.recipe": "tiny"})
    script = ROOT / "tests/pipeline/train_seeds.py"
    done = call(repo, "python", str(script), "sft", *SEEDS)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(repo / "stages/_live/curves", ignore_errors=True)
    assert [path.name for path, _ in update_references(repo, write=True)] == ["sft.json"]
    return repo


def run(repo: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = call(repo, "python", "-m", "stages", "run", "sft", **environment)
    assert done.returncode == 0, done.stderr
    return done


def track(repo: Path) -> tuple[int, list[str]]:
    """Returns status and lines of `python -m stages track sft`."""
    done = call(repo, "python", "-m", "stages", "track", "sft")
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_no_seed_leaves_the_bands_of_the_others(source: Path) -> None:
    found = load_reference(source, "sft", {})
    assert found
    assert found.has_bands
    assert (len(found.seeds), found.false_alarms) == (len(SEEDS), 0)


def test_run_with_another_seed_is_on_track_and_shown_step_by_step(repo: Path) -> None:
    change(repo, {"sft.seed": 77})
    done = run(repo)
    lines = [line for line in done.stderr.splitlines() if line.startswith("sft: step ")]
    assert [line.split()[2].rstrip(",") for line in lines] == [f"{n}/16" for n in range(1, 17)]
    assert done.stderr.splitlines()[-1] == (
        "rederive: sft: stayed in all bands of 6 runs of tiny at 0123456: see `python -m stages "
        "track`"
    )
    assert done.stdout == ""
    log = read_log(repo, "sft")
    live = list(LiveLog(repo / "work/live/sft.jsonl").read())
    assert [entry.step for entry in live] == [row["step"] for row in log]
    for entry, row in zip(live, log, strict=True):
        seen = {name: entry.figures[name] for name in row if name != "step"}
        assert seen == pytest.approx({name: row[name] for name in seen}, rel=1e-3)
    status, shown = track(repo)
    assert status == 0
    assert shown[:2] == ["sft: finished, step 16", "on track: 6 runs of tiny at 0123456"]


def test_broken_learning_rate_is_warned_of_while_it_runs(repo: Path) -> None:
    """A mistake in the code: the parameters are the recipe's."""
    path = repo / "stages/sft/training.py"
    text = path.read_text(encoding="utf-8")
    line = '"learning_rate": params.learning_rate,'
    assert line in text
    path.write_text(text.replace(line, '"learning_rate": 30 * params.learning_rate,'))
    stderr = run(repo).stderr
    assert "rederive: sft: off track: " in stderr
    assert stderr.index("off track: ") < stderr.index("sft: step 16/16")
    status, shown = track(repo)
    assert status == 1
    assert shown[1].startswith("off track: ")


def test_broken_data_is_warned_of(repo: Path) -> None:
    """Each trace has the prompt of another problem, and says what the model never saw."""
    path = repo / "artifacts/filter/train.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["completion"][0]["content"] = row["completion"][0]["content"][::-1]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert "rederive: sft: off track: loss is " in run(repo).stderr


def test_resumed_run_has_its_whole_curve(repo: Path) -> None:
    change(repo, {"sft.save_steps": 2})
    process = start(repo, "sft")
    wait_for(repo, "work/sft/*/checkpoints/checkpoint-*/trainer_state.json", process)
    process.kill()
    process.communicate()
    run(repo)
    live = list(LiveLog(repo / "work/live/sft.jsonl").read())
    log = read_log(repo, "sft")
    assert [entry.step for entry in live] == [row["step"] for row in log] == list(range(1, 17))
    losses = [row["loss"] for row in log]
    assert [entry.figures["loss"] for entry in live] == pytest.approx(losses, rel=1e-3)


def test_other_parameters_are_not_judged(repo: Path) -> None:
    change(repo, {"sft.learning_rate": 1e-3})
    stderr = run(repo).stderr
    said = (
        "rederive: sft: not judged: another recipe than the recorded one: sft.learning_rate is "
        "0.001 and not 3e-05"
    )
    assert stderr.splitlines().count(said) == 1
    assert "off track" not in stderr


def test_display_and_trackers_change_no_byte(repo: Path, tmp_path: Path) -> None:
    (repo / ".venv-trackers").symlink_to(ROOT / ".venv-trackers")
    digests = []
    for environment in (
        {"R1_PROGRESS": "raw"},
        {"R1_TRACKERS": "tensorboard,trackio,wandb", "WANDB_MODE": "offline"},
    ):
        stderr = run(repo, **environment, TRACKIO_DIR=str(tmp_path / "trackio")).stderr
        assert "is left out" not in stderr
        steps = (repo / "runs/sft.steps.jsonl").read_bytes()
        digests.append((sha256_tree(repo / "artifacts/sft"), steps))
    assert digests[0] == digests[1]
    assert list((repo / "work/live/tensorboard").glob("sft-*/events*"))
    assert list((repo / "work/live/wandb").glob("offline-run-*"))
    assert (tmp_path / "trackio/rederive.db").is_file()
