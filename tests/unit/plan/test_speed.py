"""FLOPs and decoding steps."""

from __future__ import annotations

import pytest

from stages._plan.hardware import ASSUMED, H100
from stages._plan.models import DEEPSEEK_V3, QWEN_7B, QWEN_32B
from stages._plan.speed import (
    Replica,
    forward_flops_per_token,
    make_replica,
    training_flops_per_token,
    training_tokens_per_s,
)
from tests.unit.plan.toy import TOY


def test_flops_of_a_toy_by_hand() -> None:
    parameters = 2 * (2 * 8 * 8 + 8 * 4 + 3 * 8 * 16) + 100 * 8
    assert TOY.active_parameters == parameters
    assert forward_flops_per_token(TOY, 0) == 2 * parameters
    # Scores and values: 2 x 2 x A x context per layer, halved by the mask.
    assert forward_flops_per_token(TOY, 10) - 2 * parameters == 2 * 2 * 8 * 10
    assert training_flops_per_token(TOY, 10) == 3 * forward_flops_per_token(TOY, 10)


def test_training_speed_is_the_share_of_the_peak() -> None:
    speed = training_tokens_per_s(QWEN_7B, 4096)
    assert speed * training_flops_per_token(QWEN_7B, 4096) == pytest.approx(0.35 * 989e12)


def test_one_sequence_is_bound_by_the_weights() -> None:
    replica = make_replica(QWEN_7B, tensor_parallel=1, context_tokens=1000)
    seconds = replica.step_s(1, 1) - ASSUMED.step_overhead_s
    assert seconds == pytest.approx(2 * QWEN_7B.parameters / (0.7 * 3.35e12), rel=1e-3)


def test_more_sequences_write_more_until_computing_takes_longer_than_reading() -> None:
    replica = make_replica(QWEN_7B, tensor_parallel=1, context_tokens=100, max_num_seqs=4096)
    speeds = [replica.tokens_per_s(number, 100) for number in (1, 8, 64, 512, 4096)]
    assert speeds == sorted(speeds)
    assert speeds[1] / speeds[0] > 7
    assert speeds[4] / speeds[3] < 4


def test_tensor_parallelism_reads_faster_and_talks() -> None:
    one = Replica(model=QWEN_32B, gpus=1, weight_bytes=65e9, max_sequences=1)
    four = Replica(model=QWEN_32B, gpus=4, weight_bytes=65e9 / 4, max_sequences=1)
    talk = 2 * 64 * ASSUMED.collective_s
    overhead = ASSUMED.step_overhead_s
    expected = (one.step_s(1, 1) - overhead) / 4 + talk + overhead
    assert four.step_s(1, 1) == pytest.approx(expected, rel=1e-3)


def test_what_does_not_fit_is_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="Qwen2.5-32B on 1 H100 SXM leaves no room .* double the"):
        make_replica(QWEN_32B, tensor_parallel=1, context_tokens=30_000)
    with pytest.raises(ValueError, match="DeepSeek-V3 on 8"):
        make_replica(DEEPSEEK_V3, tensor_parallel=8, context_tokens=1000, weight_size=1)
    assert H100.memory_bytes == 80e9
