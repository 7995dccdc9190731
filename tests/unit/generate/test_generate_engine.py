"""The engine's options, and the environment that it starts in."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest

from stages.generate.engine import is_cpu_build, prepare_environment
from tests.engine import CPU


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_model_len": 0}, "max_model_len must be >= 1, not 0"),
        ({"max_num_seqs": 0}, "max_num_seqs must be >= 1, not 0"),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size must be >= 1, not 0"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization must be in .*, not 1.5"),
        ({"gpu_memory_utilization": 0.0}, "gpu_memory_utilization must be in .*, not 0.0"),
        ({"kv_cache_memory_bytes": 0}, "kv_cache_memory_bytes must be >= 1, not 0"),
        ({"block_size": 16}, "block_size must be a multiple of 32, not 16"),
        ({"max_num_batched_tokens": 1023}, "max_num_batched_tokens must be >= max_model_len"),
        ({"max_num_batched_tokens": None}, "max_num_batched_tokens must be >= max_model_len"),
    ],
)
def test_bounds(change: dict[str, Any], message: str) -> None:
    """Each bad option is refused by name."""
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CPU, **change)


def test_chunked_prefill_needs_no_large_step() -> None:
    """With chunks, which a GPU reads, vLLM's default step is fine."""
    options = dataclasses.replace(CPU, enable_chunked_prefill=True, max_num_batched_tokens=None)
    assert options.max_num_batched_tokens is None


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine runs in this process, and says what a user wants to hear."""
    monkeypatch.setattr(os, "environ", {"VLLM_LOGGING_LEVEL": "DEBUG"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    prepare_environment(2, "native")
    assert os.environ == {
        "VLLM_BATCH_INVARIANT": "0",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "DEBUG",
    }


@pytest.mark.skipif(not is_cpu_build(), reason="a GPU build does not compute on these threads")
def test_no_more_threads_than_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was given three of the machine's CPUs cannot run four threads."""
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {8, 3, 5})
    with pytest.raises(ValueError, match=r"num_threads must be between 1 and 3, .*, not 4"):
        prepare_environment(4, "native")
