"""Rollouts and training as two kinds of work that wait for one another, simulated with seeds.

Synchronous: all rollouts of an iteration are written, then trained on, by separate nodes that
alternate (TRL's server mode, and this project) or by the same ones (colocate). The longest rollout
keeps everybody waiting while its GPUs compute for ever fewer sequences.
Asynchronous: rollout nodes write all the time, training nodes take batches as they are finished,
and a response is at most `staleness` updates old (as in AReaL, arXiv:2505.24298). No stage of this
project does this.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages._plan.hardware import ASSUMED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stages._plan.hardware import Efficiency
    from stages._plan.speed import Replica


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """Lengths of responses in tokens: log-normal, cut at `limit`.

    sigma: the standard deviation of the logarithm; 0: all are equal.
    """

    mean: float  # before the cut
    sigma: float
    limit: int

    def draw(self, rng: random.Random) -> int:
        """Returns a length."""
        mu = math.log(self.mean) - self.sigma**2 / 2
        return max(1, min(self.limit, round(rng.lognormvariate(mu, self.sigma))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Seconds per update of the weights, and the shares of time in which nodes compute."""

    step_s: float
    rollout_use: float
    training_use: float


def write_all(
    replica: Replica, lengths: Sequence[int], efficiency: Efficiency = ASSUMED
) -> tuple[float, float]:
    """Returns the seconds in which one replica writes the responses, and those of full batches.

    Responses start in their order, as many as the replica holds, and another one where one ends.
    A step's time follows from how many are being written and how long they are by then; between two
    ends it is that of their mean length. The second number is what the same tokens would take if
    every step had as many sequences as the busiest: the rest is waiting for stragglers.
    """
    waiting = list(reversed(lengths))
    active: list[tuple[int, int]] = []  # (step at which it ends, step at which it started)
    step, elapsed, starts = 0, 0.0, 0
    busiest = max(1, min(len(lengths), int(replica.max_sequences)))
    while waiting or active:
        while waiting and len(active) < busiest:
            heapq.heappush(active, (step + waiting.pop(), step))
            starts += step
        end, start = heapq.heappop(active)
        sequences = len(active) + 1
        written = (step + end) / 2 - starts / sequences
        elapsed += (end - step) * replica.step_s(
            sequences, max(1.0, written), efficiency=efficiency
        )
        step = end
        starts -= start
    mean_context = sum(length * length for length in lengths) / (2 * sum(lengths))
    full = sum(lengths) / replica.tokens_per_s(busiest, mean_context, efficiency=efficiency)
    return elapsed, min(full, elapsed)


def simulate_synchronous(
    replica: Replica,
    *,
    num_replicas: int,
    lengths: Lengths,
    rollout_size: int,
    updates_per_rollout: int,
    training_s: float,
    is_colocated: bool,
    seed: int,
    iterations: int = 2,
    efficiency: Efficiency = ASSUMED,
) -> Outcome:
    """Returns the outcome of iterations that write `rollout_size` responses, then train on them.

    training_s: of all the updates of one iteration, for responses of the mean length.
    """
    rng = random.Random(seed)  # noqa: S311 - a simulation
    total = useful = trained = 0.0
    for _ in range(iterations):
        drawn = [lengths.draw(rng) for _ in range(rollout_size)]
        shares = [drawn[index::num_replicas] for index in range(num_replicas)]
        times = [write_all(replica, share, efficiency) for share in shares if share]
        longest = max(time for time, _ in times)
        this_training = training_s * sum(drawn) / (rollout_size * lengths.mean)
        total += longest + this_training
        useful += sum(full for _, full in times) / num_replicas
        trained += this_training
    if is_colocated:
        use = (useful + trained) / total
        return Outcome(
            step_s=total / iterations / updates_per_rollout, rollout_use=use, training_use=use
        )
    return Outcome(
        step_s=total / iterations / updates_per_rollout,
        rollout_use=useful / total,
        training_use=trained / total,
    )


def simulate_asynchronous(
    replica: Replica,
    *,
    num_replicas: int,
    lengths: Lengths,
    batch_size: int,
    training_s: float,
    staleness: int,
    seed: int,
    updates: int = 40,
    efficiency: Efficiency = ASSUMED,
) -> Outcome:
    """Returns the outcome of updates that each take `batch_size` finished responses.

    training_s: of one update. At most `staleness` + 1 batches are being written or lie ready, and
    no more than the replicas hold are being written; what is being written always has that many
    neighbours. The first half of the updates is not counted.
    """
    rng = random.Random(seed)  # noqa: S311 - a simulation
    most = (staleness + 1) * batch_size
    slots = max(1, min(int(replica.max_sequences), -(-most // num_replicas)))
    token_s = replica.step_s(slots, lengths.mean / 2, efficiency=efficiency)
    num_running = min(most, slots * num_replicas)
    running = [lengths.draw(rng) * rng.random() * token_s for _ in range(num_running)]
    heapq.heapify(running)
    ready = done = written = 0
    now = free_at = counted_from = 0.0
    while done < updates:
        if ready >= batch_size and free_at <= now:
            ready -= batch_size
            free_at = now + training_s
            done += 1
            if done == updates // 2:
                counted_from, written = now, 0
            while len(running) < num_running and len(running) + ready < most:
                heapq.heappush(running, now + lengths.draw(rng) * token_s)
        elif running and (ready < batch_size or running[0] <= free_at):
            now = max(now, heapq.heappop(running))
            ready += 1
            written += 1
            if len(running) + ready < most:
                heapq.heappush(running, now + lengths.draw(rng) * token_s)
        else:
            now = max(now, free_at)
    step_s = (now - counted_from) / (updates - updates // 2)
    mean_tokens = sum(lengths.draw(rng) for _ in range(1000)) / 1000
    tokens_per_s = slots * num_replicas / token_s
    return Outcome(
        step_s=step_s,
        rollout_use=min(1.0, written * mean_tokens / tokens_per_s / (now - counted_from)),
        training_use=min(1.0, training_s / step_s),
    )
