"""reasoning-gym's own scores, and no code of the model's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import reasoning_gym

from stages.grpo.rewards.procedural import reasoning_gym_reward


def describe(dataset: str, entry: object, config: Mapping[str, object] | None = None) -> str:
    return json.dumps({"dataset": dataset, "config": config or {}, "entry": entry})


def _row(dataset: str, **config: object) -> tuple[dict[str, object], str]:
    entry = reasoning_gym.create_dataset(dataset, seed=1, size=1, **config)[0]
    return entry, describe(dataset, entry, dict(config))


def _score(row: str, *answers: str) -> list[float | None]:
    completions = [f"<think>a</think><answer>{answer}</answer>" for answer in answers]
    return reasoning_gym_reward(completions, [row] * len(answers))


@pytest.mark.parametrize(
    "dataset",
    ["chain_sum", "basic_arithmetic", "spell_backward", "n_queens", "string_insertion",
     "spiral_matrix", "binary_matrix", "simple_integration", "intermediate_integration",
     "polynomial_multiplication", "countdown", "puzzle24", "rearc", "sudoku", "knights_knaves"],
)  # fmt: skip
def test_reference_scores_one_and_another_text_less(dataset: str) -> None:
    entry, row = _row(dataset)
    one, other = _score(row, str(entry["answer"]), "zzz zzz")
    assert one == 1.0
    assert other is not None
    assert 0.0 <= other <= 0.05


def test_any_solution_counts() -> None:
    row = describe(
        "countdown", {"question": "", "answer": "2*3", "metadata": {"numbers": [2, 3], "target": 6}}
    )
    assert _score(row, "3*2", "2*3", "6", "2+3", "(3)*(2)") == [1.0, 1.0, 0.05, 0.05, 1.0]


def test_part_of_the_score_is_kept() -> None:
    row = describe("chain_sum", {"question": "1 + 2 = ?", "answer": "30", "metadata": {}})
    assert _score(row, "30", "= 30", "31") == [1.0, 0.5, 0.0]


def test_format_comes_first() -> None:
    _, row = _row("countdown")
    completions = ["5", "<think>a</think><answer>5</answer> or 6", "<answer>5</answer>"]
    assert reasoning_gym_reward(completions, [row] * 3) == [0.0, 0.0, 0.0]


def test_row_without_the_column_has_no_score() -> None:
    row = describe("chain_sum", {"question": "", "answer": "3", "metadata": {}})
    completions = ["<think>a</think><answer>3</answer>"] * 2
    assert reasoning_gym_reward(completions, [None, row]) == [None, 1.0]


def test_settings_of_the_data_set_are_used() -> None:
    entry = {"question": "", "answer": "10+10+2+2", "metadata": {}}
    rows = [describe("puzzle24", entry, config) for config in (None, {"max_value": 9})]
    assert [_score(row, "10+10+2+2") for row in rows] == [[1.0], [0.01]]


def test_answer_on_which_the_scorer_raises_is_wrong() -> None:
    _, row = _row("prime_factorization")
    assert _score(row, "two times three") == [0.0]


def test_scorer_that_raises_on_its_reference_is_an_error() -> None:
    row = describe("countdown_broken", {"answer": "1"})
    with pytest.raises(ValueError, match="'countdown_broken', which reasoning-gym lacks"):
        _score(row, "1")
    row = describe("sudoku", {"question": "", "answer": "1 2", "metadata": {}})
    with pytest.raises(ValueError, match="sudoku cannot score its own reference '1 2'"):
        _score(row, "2 1")


@pytest.mark.parametrize("row", ["", "[]", "{}", '{"dataset": "chain_sum"}', "3"])
def test_column_that_is_no_row_is_an_error(row: str) -> None:
    with pytest.raises(ValueError, match="have the stage prompts write it"):
        _score(row, "3")


def test_configuration_that_is_none_is_an_error() -> None:
    entry = {"question": "", "answer": "3", "metadata": {}}
    for dataset, config in (("chain_sum", {"speed": 1}), ("composite", {})):
        with pytest.raises(ValueError, match=f"is not a configuration of {dataset}"):
            _score(describe(dataset, entry, dict(config)), "3")


@pytest.mark.parametrize(
    "dataset", ["n_queens", "string_insertion", "spiral_matrix", "binary_matrix"]
)
def test_evaluated_answers_are_literals(dataset: str, tmp_path: Path) -> None:
    _, row = _row(dataset)
    answer = f"[__import__('os').mkdir({str(tmp_path / 'made')!r})]"
    (score,) = _score(row, answer)
    assert score is not None
    assert score <= 0.01
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "dataset",
    ["countdown", "intermediate_integration", "polynomial_multiplication", "puzzle24",
     "simple_integration"],
)  # fmt: skip
def test_parsed_answers_run_no_code(dataset: str, tmp_path: Path) -> None:
    _, row = _row(dataset)
    path = tmp_path / "made"
    codes = "+".join(f"chr({ord(letter)})" for letter in f"import os; os.mkdir({str(path)!r})")
    answers = [f"__import__('os').mkdir({str(path)!r})", f"exec({codes})", "x.subs(x, 1)"]
    assert _score(row, *answers) == [0.0, 0.0, 0.0]
    assert not path.exists()


def test_formula_that_never_ends_has_no_score() -> None:
    _, row = _row("countdown")
    assert _score(row, "9**9**9**9") == [None]
