"""Completions without a verdict: whose they are, how they count, and when they are too many."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from stages.grpo.rewards.limit import MIN_COUNTED, check_columns, find_columns, limit_unscorable


def halve(
    completions: list[str], *, size: list[int | None], unit: int = 2, **columns: object
) -> list[float | None]:
    """Returns size / unit, or None where the completion is "?"."""
    assert isinstance(columns["id"], list)
    assert len(columns["id"]) == len(size) == len(completions)
    pairs = zip(completions, size, strict=True)
    return [None if text == "?" else (number or 0) / unit for text, number in pairs]


class Log(dict[str, float]):
    """Keeps what TRL would log."""

    def __call__(self, name: str, value: float) -> None:
        self[name] = value


def score(reward: Any, completions: list[str], size: list[int | None], log: Log) -> Any:
    ids = [str(i) for i in range(len(size))]
    return reward(completions=completions, log_metric=log, size=size, id=ids, trainer_state=None)


def test_columns_are_the_parameters_without_a_default() -> None:
    assert find_columns(halve) == ["size"]
    assert find_columns(partial(halve, unit=4)) == ["size"]
    assert find_columns(limit_unscorable("half", halve, 0.0)) == ["size"]


def test_reward_without_its_column_is_refused_before_the_run() -> None:
    check_columns("half", halve, [{"size": None}, {"size": 0}])
    for rows in ([{"id": "a"}], [{"size": None}]):
        with pytest.raises(
            ValueError, match=r"grpo\.rewards\.half needs size .* none of the 1 has"
        ):
            check_columns("half", halve, rows)


def test_rows_of_other_rewards_are_passed_over_and_not_counted() -> None:
    log = Log()
    reward = limit_unscorable("half", halve, 0.0)
    assert score(reward, ["a", "?", "c"], [4, None, 2], log) == [2.0, None, 1.0]
    assert log == {"unscorable/half": 0.0}
    assert score(reward, ["?"], [None], log) == [None]
    assert log == {"unscorable/half": 0.0}


def test_row_without_a_column_that_may_be_missing_is_not_counted_either() -> None:
    def double(
        completions: list[str], *, unit: list[str | None] | None = None, **columns: object
    ) -> list[float | None]:
        del columns
        units = unit or ["m"] * len(completions)
        return [
            None if u is None or t == "?" else 2.0 for t, u in zip(completions, units, strict=True)
        ]

    log = Log()
    reward = limit_unscorable("double", double, 0.0)
    assert reward(completions=["a", "b"], log_metric=log) == [2.0, 2.0]
    assert reward(completions=["a", "b"], log_metric=log, unit=["m", None]) == [2.0, None]
    assert log == {"unscorable/double": 0.0}
    with pytest.raises(ValueError, match="could not score 1 of 4"):
        reward(completions=["?", "b"], log_metric=log, unit=["m", None])
    assert log == {"unscorable/double": 0.5}


def test_share_is_logged_under_the_name_that_has_the_weight() -> None:
    log = Log()
    reward = limit_unscorable("half", halve, 0.5)
    assert reward.__name__ == "half"
    assert score(reward, ["a", "?", "c", "d"], [4, 6, 2, None], log) == [2.0, None, 1.0, None]
    assert log == {"unscorable/half": 0.25}


def test_too_many_without_a_verdict_stop_the_run() -> None:
    reward = limit_unscorable("half", halve, 0.05)
    most = int(0.05 * MIN_COUNTED)
    assert score(reward, ["?"] * most, [1] * most, Log()) == [None] * most
    with pytest.raises(
        ValueError, match=r"half could not score 6 of 6 .*max_unscorable_rate = 0\.05"
    ):
        score(reward, ["?"], [1], Log())


def test_limit_is_on_the_share_of_all_that_were_counted() -> None:
    reward = limit_unscorable("half", halve, 0.05)
    score(reward, ["a"] * 200, [1] * 200, Log())
    assert score(reward, ["?"] * 10, [1] * 10, Log()) == [None] * 10  # 10 of 210
    with pytest.raises(ValueError, match="could not score 11 of 211"):
        score(reward, ["?"], [1], Log())
