"""What `sbatch` answers, said by a program in its place: Slurm itself answers in tests/slurm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stages._launch import slurm


def answer(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str) -> None:
    """Makes the command print this."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("said", "job"), [("12", "12"), ("12;hopper", "12"), ("Welcome to Hopper\n\n12;hopper", "12")]
)
def test_id_is_the_last_word_without_the_clusters_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, job: str
) -> None:
    answer(tmp_path, monkeypatch, "sbatch", f"printf '{said}\n'")
    assert slurm.submit(tmp_path / "script.sh", "key", []) == job


@pytest.mark.parametrize("said", ["", "Submitted batch job"])
def test_answer_without_an_id_is_an_error_that_quotes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    answer(tmp_path, monkeypatch, "sbatch", f"printf '{said}\n'")
    with pytest.raises(slurm.SchedulerError, match=f"gave no job's id, but '{said}'"):
        slurm.submit(tmp_path / "script.sh", "key", [])


def test_refusal_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(tmp_path, monkeypatch, "sbatch", "printf 'error: a\nerror: b\n' >&2; exit 1")
    with pytest.raises(slurm.SchedulerError, match="^sbatch says: error: a error: b$"):
        slurm.submit(tmp_path / "script.sh", "key", [])


def test_key_is_found_among_the_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(tmp_path, monkeypatch, "squeue", "printf '7 (null)\n8 keyed\n9 key\n10 a comment\n'")
    assert slurm.find_by_key("key") == "9"
    assert slurm.find_by_key("other") is None


@pytest.mark.parametrize(
    ("state", "is_broken"),
    [
        ("idle", False),
        ("allocated", False),
        ("mixed", False),
        ("down", True),
        ("down*", True),
        ("idle*", True),
        ("drained", True),
        ("draining", True),
        ("fail", True),
        ("unknown", True),
    ],
)
def test_node_that_slurm_does_not_use_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, is_broken: object
) -> None:
    answer(tmp_path, monkeypatch, "sinfo", f"printf 'n1 idle\nn2 {state}\nn2 {state}\n'")
    assert slurm.list_broken("n[1-2]") == (["n2"] if is_broken else [])
