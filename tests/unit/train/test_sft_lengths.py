"""Traces that are too long, and the log's columns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from datasets import Dataset

from stages._contract.params import load
from stages.sft.stage import keep_whole, load_traces, name_columns

if TYPE_CHECKING:
    from stages.sft.params import SftParams

PARAMS: SftParams = load(Path(__file__).parents[3] / "params.yaml", "sft")


def tokenised(*lengths: int) -> Dataset:
    return Dataset.from_list([{"input_ids": list(range(length))} for length in lengths])


def test_traces_that_were_cut_are_an_error_unless_they_may_be_dropped() -> None:
    dataset = tokenised(3, 8, 2, 8)  # TRL cuts at 8: who has 8 may have had more
    params = replace(PARAMS, max_length=8)
    with pytest.raises(ValueError, match="is 8 tokens, but 2 of 4 traces are .* set drop_longer"):
        keep_whole(dataset, 4, params)
    kept, num_cut = keep_whole(dataset, 4, replace(params, drop_longer=True))
    assert (num_cut, [len(ids) for ids in kept["input_ids"]]) == (2, [3, 2])


def test_traces_that_trl_has_left_out_count_too() -> None:
    """Their prompts alone are longer: nothing was left to learn."""
    with pytest.raises(ValueError, match="is 8 tokens, but 3 of 5 traces are"):
        keep_whole(tokenised(3, 8, 2), 5, replace(PARAMS, max_length=8))


def test_none_is_dropped_where_none_is_too_long() -> None:
    dataset = tokenised(3, 7)
    kept, num_cut = keep_whole(dataset, 2, replace(PARAMS, max_length=8))
    assert kept is dataset
    assert num_cut == 0


def test_dropping_all_is_an_error() -> None:
    remedy = "2 of 2 traces are as long or longer: raise it, or lower generate.max_tokens$"
    with pytest.raises(ValueError, match=remedy):
        keep_whole(tokenised(8, 8), 2, replace(PARAMS, max_length=8, drop_longer=True))


def test_liger_has_no_entropy_to_log() -> None:
    assert "entropy" in name_columns(PARAMS)
    fused = name_columns(replace(PARAMS, use_liger_kernel=True, loss_type="nll"))
    assert name_columns(PARAMS).keys() - fused.keys() == {"entropy"}


def test_traces_are_read_into_a_file_that_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    rows = [
        {
            "id": str(number),
            "prompt": [{"role": "user", "content": f"{number}?"}],
            "completion": [{"role": "assistant", "content": "1"}],
            "answer": None,
        }
        for number in range(3)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    dataset = load_traces(path, tmp_path / "datasets")
    assert list(dataset) == [{key: row[key] for key in ("prompt", "completion")} for row in rows]
    (file,) = {entry["filename"] for entry in dataset.cache_files}
    before = Path(file).stat()
    again = load_traces(path, tmp_path / "datasets")
    assert {entry["filename"] for entry in again.cache_files} == {file}
    assert Path(file).stat().st_mtime_ns == before.st_mtime_ns


def test_corrupted_and_empty_traces_are_said_plainly(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="train.jsonl is empty: the stage that writes it"):
        load_traces(path, tmp_path / "datasets")
    path.write_text('{"prompt": [], "completion": []}\n{"prom', encoding="utf-8")
    with pytest.raises(ValueError, match=r"train\.jsonl:2 is corrupted"):
        load_traces(path, tmp_path / "datasets")
