"""Rows get the steps and the names that log.jsonl will have."""

from __future__ import annotations

import ast
import json
import math
import os
from pathlib import Path

import pytest

from stages._live.rows import Counter, Entry, LiveLog, rename, write_entry

ROOT = Path(__file__).parents[3]
RUN = "0123456789abcdef"


def columns_of(stage: str) -> dict[str, str]:
    """Returns the constants of the stage's columns, read without its imports: ours -> TRL's."""
    tree = ast.parse((ROOT / "stages" / stage / "stage.py").read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            found |= ast.literal_eval(node.value)
    return found


@pytest.mark.parametrize("stage", ["sft", "preference", "grpo"])
def test_names_are_those_of_the_log(stage: str) -> None:
    columns = columns_of(stage)
    assert len(columns) >= 5
    printed = {theirs: float(number) for number, theirs in enumerate(columns.values())}
    assert rename(printed, ()) == {
        ours: float(number) for number, ours in enumerate(columns) if ours != "step"
    }


def test_rewards_have_their_names_and_reward_models_theirs() -> None:
    printed = {
        "rewards/answer_accuracy/mean": 0.5,
        "rewards/answer_accuracy/std": 0.1,
        "rewards/reward_model/mean": 2.0,
        "unscorable/answer_accuracy": 0.0,
    }
    assert rename(printed, ["answer_accuracy"]) == {
        "answer_accuracy": 0.5,
        "rewards/answer_accuracy/std": 0.1,
        "reward_model/reward_model": 2.0,
        "unscorable/answer_accuracy": 0.0,
    }


def save(folder: Path, step: int, num_states: int = 1, text: str | None = None) -> None:
    """Writes a checkpoint as transformers leaves it."""
    path = folder / "checkpoints" / f"checkpoint-{step}"
    path.mkdir(parents=True)
    history = [{"loss": float(number), "step": number} for number in range(2, step + 1, 2)]
    state = {"global_step": step, "log_history": [*history, {"train_runtime": 1.0}]}
    (path / "trainer_state.json").write_text(json.dumps(state) if text is None else text)
    for number in range(num_states):
        (path / f"rng_state_{number}.pth").touch()


def test_steps_begin_with_the_first_that_is_logged(tmp_path: Path) -> None:
    counter = Counter(tmp_path / "none", 5, 1)
    assert [counter.next() for _ in range(3)] == [5, 10, 15]


def test_resumed_run_goes_on_from_its_checkpoint_and_has_its_rows(tmp_path: Path) -> None:
    save(tmp_path / RUN, 5)
    save(tmp_path / RUN, 3)
    (tmp_path / RUN / "steps.jsonl").touch()
    counter = Counter(tmp_path, 2, 1)
    (tmp_path / RUN / "checkpoints/checkpoint-5/trainer_state.json").unlink()  # the trainer did
    assert [counter.next(), counter.next()] == [6, 8]
    assert counter.earlier == [{"loss": 2.0, "step": 2}, {"loss": 4.0, "step": 4}]


def test_row_of_a_checkpoint_without_a_figure_is_read_as_one_that_was_printed(
    tmp_path: Path,
) -> None:
    """TRL has no mean of a reward where no completion of a step had a verdict."""
    row = {"loss": 2.0, "rewards/accuracy/mean": None, "step": 1}
    save(tmp_path / RUN, 1, text=json.dumps({"global_step": 1, "log_history": [row]}))
    (tmp_path / RUN / "steps.jsonl").touch()
    counter = Counter(tmp_path, 1, 1)
    assert counter.next() == 2
    (before,) = counter.earlier
    write_entry(tmp_path / "live.jsonl", Entry(1, 0.0, rename(before, ["accuracy"])))
    assert list(LiveLog(tmp_path / "live.jsonl").read()) == [Entry(1, 0.0, {"loss": 2.0})]


@pytest.mark.parametrize(("num_states", "text"), [(1, "{"), (0, None), (2, None)])
def test_checkpoint_that_is_not_complete_counts_for_nothing(
    tmp_path: Path, num_states: int, text: str | None
) -> None:
    save(tmp_path / RUN, 4, num_states, text)
    (tmp_path / RUN / "steps.jsonl").touch()
    assert Counter(tmp_path, 1, 1).next() == 1


def test_work_for_other_parameters_is_not_taken(tmp_path: Path) -> None:
    for name, step, seen in (("other", 8, 100), (RUN, 3, 200)):
        save(tmp_path / name, step)
        (tmp_path / name / "steps.jsonl").touch()
        os.utime(tmp_path / name / "steps.jsonl", (seen, seen))
    assert Counter(tmp_path, 1, 1).next() == 4


def test_live_log_is_read_once_and_only_to_the_end_of_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "live.jsonl"
    log = LiveLog(path)
    assert list(log.read()) == []
    write_entry(path, Entry(1, 5.123, {"loss": 0.5}))
    assert list(log.read()) == [Entry(1, 5.12, {"loss": 0.5})]
    assert list(log.read()) == []
    write_entry(path, Entry(2, 6.0, {"loss": math.nan}))
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    assert list(log.read()) == []
    path.write_bytes(whole)
    ((step, _, figures),) = log.read()
    assert step == 2
    assert math.isnan(figures["loss"])
