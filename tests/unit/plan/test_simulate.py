"""The simulation of rollouts: exact where it can be, ordered where it cannot."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest

from stages._plan.models import QWEN_7B
from stages._plan.simulate import (
    Lengths,
    simulate_asynchronous,
    simulate_synchronous,
    write_all,
)
from stages._plan.speed import make_replica

REPLICA = make_replica(QWEN_7B, tensor_parallel=1, context_tokens=2000)
LENGTHS = Lengths(mean=2000, sigma=0.8, limit=32_768)
SYNCHRONOUS: dict[str, Any] = {
    "num_replicas": 8,
    "rollout_size": 512,
    "updates_per_rollout": 1,
    "training_s": 10.0,
    "is_colocated": False,
    "seed": 0,
}


def test_lengths_have_the_mean_and_the_limit() -> None:
    rng = random.Random(0)  # noqa: S311 - a simulation
    drawn = [LENGTHS.draw(rng) for _ in range(20_000)]
    assert fmean(drawn) == pytest.approx(2000, rel=0.03)
    assert max(replace(LENGTHS, limit=3000).draw(rng) for _ in range(1000)) == 3000
    assert {Lengths(mean=7, sigma=0.0, limit=9).draw(rng) for _ in range(9)} == {7}


def test_equal_lengths_have_no_stragglers() -> None:
    elapsed, full = write_all(REPLICA, [1000] * 64)
    assert elapsed == pytest.approx(1000 * REPLICA.step_s(64, 500))
    assert full == pytest.approx(elapsed, rel=0.01)


def test_one_straggler_computes_alone() -> None:
    short, _ = write_all(REPLICA, [1000] * 64)
    long, full = write_all(REPLICA, [1000] * 63 + [5000])
    assert long - short == pytest.approx(4000 * REPLICA.step_s(1, 3000), rel=0.01)
    assert full / long < 0.5


def test_what_a_replica_cannot_hold_waits() -> None:
    small = replace(REPLICA, max_sequences=8)
    elapsed, _ = write_all(small, [100] * 24)
    assert elapsed == pytest.approx(3 * 100 * small.step_s(8, 50), rel=1e-6)


def test_a_synchronous_update_is_the_longest_rollout_and_the_training() -> None:
    equal = Lengths(mean=1000, sigma=0.0, limit=32_768)
    outcome = simulate_synchronous(REPLICA, lengths=equal, **SYNCHRONOUS)
    rollout, _ = write_all(REPLICA, [1000] * 64)
    assert outcome.step_s == pytest.approx(rollout + 10)
    assert outcome.training_use == pytest.approx(10 / (rollout + 10))
    assert outcome.rollout_use == pytest.approx(rollout / (rollout + 10), rel=0.01)


def test_the_same_seed_gives_the_same_and_spread_costs_time() -> None:
    first = simulate_synchronous(REPLICA, lengths=LENGTHS, **SYNCHRONOUS)
    assert simulate_synchronous(REPLICA, lengths=LENGTHS, **SYNCHRONOUS) == first
    equal = simulate_synchronous(REPLICA, lengths=replace(LENGTHS, sigma=0.0), **SYNCHRONOUS)
    assert first.step_s > 1.5 * equal.step_s
    assert first.rollout_use < equal.rollout_use


def asynchronous(**changes: Any) -> Any:
    settings: dict[str, Any] = {
        "num_replicas": 8,
        "lengths": LENGTHS,
        "batch_size": 512,
        "training_s": 10.0,
        "staleness": 4,
        "seed": 0,
    }
    return simulate_asynchronous(REPLICA, **(settings | changes))


def test_asynchronous_training_is_bound_by_the_slower_side() -> None:
    outcome = asynchronous(training_s=1000.0)
    assert outcome.step_s == pytest.approx(1000, rel=0.01)
    assert outcome.training_use == pytest.approx(1, rel=0.01)
    hungry = asynchronous(training_s=0.01)
    assert hungry.rollout_use > 0.9
    slots = min(int(REPLICA.max_sequences), 5 * 512 // 8)
    tokens_per_s = 8 * REPLICA.tokens_per_s(slots, 1000)
    assert hungry.step_s == pytest.approx(512 * 2000 / tokens_per_s, rel=0.1)


def test_not_waiting_pays() -> None:
    waiting = simulate_synchronous(REPLICA, lengths=LENGTHS, **SYNCHRONOUS)
    assert asynchronous().step_s < waiting.step_s
