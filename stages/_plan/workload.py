"""What R1 asks for: how many responses, how long, how many updates; and the seconds that takes.

Sources: R1 is Nature 645:633 (2025), with its supplement, and arXiv:2501.12948.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from stages._plan.hardware import ASSUMED
from stages._plan.simulate import Lengths, simulate_asynchronous, simulate_synchronous
from stages._plan.speed import (
    forward_tokens_per_s,
    make_expert_replica,
    make_replica,
    training_tokens_per_s,
)

if TYPE_CHECKING:
    from stages._plan.hardware import Efficiency
    from stages._plan.models import Model
    from stages._plan.simulate import Outcome
    from stages._plan.speed import Replica

HOUR = 3600.0

# Lengths. Open-R1 (Update 1) gives R1's mean as 6,000 tokens, and (Update 2) says that 75 % of the
# problems took less than 8,000: a log-normal of sigma 0.8 has 78 % there.
TRACE_TOKENS = 6000
SIGMA = 0.8
GENERAL_TOKENS = 1000  # of a sample that needs no reasoning: an assumption

# R1's data for supervised fine-tuning.
REASONING_SAMPLES, GENERAL_SAMPLES = 600_000, 200_000
PASS_RATE = 0.5  # share of responses that rejection sampling keeps: an assumption
SFT_EPOCHS = 2

# R1-Zero's reinforcement learning: 32 questions x 16 responses per update, 16 updates per rollout.
BATCH, UPDATES_PER_ROLLOUT = 512, 16
ROLLOUT = BATCH * UPDATES_PER_ROLLOUT
ZERO_UPDATES, STAGE_2_UPDATES = 10_400, 1_700
# Mean length of R1-Zero's responses by update, read off Figure 1b by eye: 20 % either way.
LENGTH_CURVE = ((0, 600.0), (8_200, 10_000.0), (10_400, 17_500.0))
LONGER_FROM = 8_200  # the update from which on responses may have 65,536 tokens
STAGE_2_TOKENS = 8_000.0  # an assumption
FORWARD_PASSES = 2  # for the probabilities of the reference, and of the policy that wrote


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """A model on a number of GPUs, and how these are used.

    tensor_parallel: GPUs of a replica; of one group, if experts are in parallel.
    training_share: of the GPUs; None: all do both in turn (colocated).
    """

    model: Model
    gpus: int
    tensor_parallel: int
    is_expert_parallel: bool = False
    is_asynchronous: bool = False
    training_share: float | None = None
    max_num_seqs: int = 256  # per replica; per GPU, if experts are in parallel
    efficiency: Efficiency = ASSUMED

    @property
    def training_gpus(self) -> int:
        """Returns how many GPUs train."""
        if self.training_share is None:
            return self.gpus
        return max(1, round(self.gpus * self.training_share))

    @property
    def num_replicas(self) -> int:
        """Returns how many replicas write."""
        free = self.gpus if self.training_share is None else self.gpus - self.training_gpus
        return max(1, free // self.tensor_parallel)

    def replica(self, mean_tokens: float) -> Replica:
        """Returns one replica; its cache is sized for responses of half their mean on average."""
        if self.is_expert_parallel:
            return make_expert_replica(
                self.model,
                gpus=self.tensor_parallel,
                context_tokens=mean_tokens / 2,
                max_sequences_per_gpu=self.max_num_seqs,
            )
        return make_replica(
            self.model,
            tensor_parallel=self.tensor_parallel,
            context_tokens=mean_tokens / 2,
            max_num_seqs=self.max_num_seqs,
            weight_size=1 if self.model.experts else 2,
        )


def mean_length(update: float) -> float:
    """Returns the mean length of R1-Zero's responses at an update, between the curve's points."""
    for (start, low), (end, high) in pairwise(LENGTH_CURVE):
        if update <= end:
            return low + (high - low) * (update - start) / (end - start)
    return LENGTH_CURVE[-1][1]


def writing_hours(setup: Setup, responses: float, mean_tokens: float) -> float:
    """Returns the hours in which all GPUs write so many responses, their batches always full."""
    replica = setup.replica(mean_tokens)
    speed = replica.tokens_per_s(
        replica.max_sequences, mean_tokens / 2, efficiency=setup.efficiency
    )
    return responses * mean_tokens / (speed * (setup.gpus // setup.tensor_parallel)) / HOUR


def sampling_hours(setup: Setup) -> float:
    """Returns the hours to sample R1's 800k training samples, those that are rejected included."""
    reasoning = writing_hours(setup, REASONING_SAMPLES / PASS_RATE, TRACE_TOKENS)
    return reasoning + writing_hours(setup, GENERAL_SAMPLES, GENERAL_TOKENS)


def sft_hours(setup: Setup) -> float:
    """Returns the hours to train on R1's 800k samples for two epochs, without padding."""
    seconds = 0.0
    for samples, tokens in (
        (REASONING_SAMPLES, TRACE_TOKENS),
        (GENERAL_SAMPLES, GENERAL_TOKENS),
    ):
        speed = training_tokens_per_s(setup.model, tokens, efficiency=setup.efficiency)
        seconds += SFT_EPOCHS * samples * tokens / (speed * setup.gpus)
    return seconds / HOUR


@cache
def update_outcome(setup: Setup, mean_tokens: float, limit: int, seed: int = 0) -> Outcome:
    """Returns the seconds of an update of the policy and who waits for whom, by simulation."""
    tokens = BATCH * mean_tokens
    per_gpu = 1 / training_tokens_per_s(
        setup.model, mean_tokens, efficiency=setup.efficiency
    ) + FORWARD_PASSES / forward_tokens_per_s(setup.model, mean_tokens, efficiency=setup.efficiency)
    training_s = tokens * per_gpu / setup.training_gpus
    replica = setup.replica(mean_tokens)
    lengths = Lengths(mean=mean_tokens, sigma=SIGMA, limit=limit)
    if setup.is_asynchronous:
        return simulate_asynchronous(
            replica,
            num_replicas=setup.num_replicas,
            lengths=lengths,
            batch_size=BATCH,
            training_s=training_s,
            staleness=UPDATES_PER_ROLLOUT - 1,
            seed=seed,
            efficiency=setup.efficiency,
        )
    return simulate_synchronous(
        replica,
        num_replicas=setup.num_replicas,
        lengths=lengths,
        rollout_size=ROLLOUT,
        updates_per_rollout=UPDATES_PER_ROLLOUT,
        training_s=training_s * UPDATES_PER_ROLLOUT,
        is_colocated=setup.training_share is None,
        seed=seed,
        efficiency=setup.efficiency,
    )


def zero_hours(setup: Setup, length_factor: float = 1.0) -> float:
    """Returns the hours of R1-Zero's 10,400 updates: the sum over eight points of its curve."""
    points = 8
    seconds = 0.0
    for index in range(points):
        update = ZERO_UPDATES * (index + 0.5) / points
        limit = 32_768 if update < LONGER_FROM else 65_536
        mean = min(limit / 2, mean_length(update) * length_factor)
        seconds += ZERO_UPDATES / points * update_outcome(setup, mean, limit).step_s
    return seconds / HOUR


def stage_2_hours(setup: Setup, length_factor: float = 1.0) -> float:
    """Returns the hours of the 1,700 updates of R1's last stage, reward models not counted."""
    outcome = update_outcome(setup, STAGE_2_TOKENS * length_factor, 32_768)
    return STAGE_2_UPDATES * outcome.step_s / HOUR
