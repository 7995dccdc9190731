"""The sum by which the weights of two runs are compared."""

from __future__ import annotations

import struct

import pytest
import torch

from stages.sft import witness
from stages.sft.witness import sum_bits

DTYPES = {torch.float32: 4, torch.bfloat16: 2, torch.int64: 8}


def mix(number: int, place: int) -> int:
    """Returns one term of the sum, as splitmix64 begins, with Python's whole numbers."""
    wrap = 2**64
    mixed = (number + place * 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9 % wrap
    signed = mixed - wrap if mixed >= wrap // 2 else mixed
    return (mixed ^ (signed >> 32) % wrap) * 0x94D049BB133111EB % wrap


def make(dtype: torch.dtype, num: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, generator=generator).mul(100).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num", [0, 1, 7, 1000])
@pytest.mark.parametrize("chunk", [3, 2**20])
def test_sum_is_that_of_whole_numbers(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, num: int, chunk: int
) -> None:
    monkeypatch.setattr(witness, "_CHUNK", chunk)
    tensor = make(dtype, num)
    content = tensor.view(torch.uint8).numpy().tobytes()
    content += bytes(-len(content) % 8)
    numbers = struct.unpack(f"<{len(content) // 8}Q", content)
    expected = sum(mix(number, place) for place, number in enumerate(numbers)) % 2**64
    assert int(sum_bits(tensor)) % 2**64 == expected
    if num:
        assert expected != 0


def test_smallest_changes_are_seen() -> None:
    tensor = make(torch.float32, 64).reshape(8, 8)
    sums = {int(sum_bits(tensor)), int(sum_bits(tensor.T)), int(sum_bits(tensor.flip(0)))}
    for place in range(64):
        other = tensor.clone().reshape(-1)
        other[place] = torch.nextafter(other[place], torch.tensor(torch.inf))
        sums.add(int(sum_bits(other.reshape(8, 8))))
    assert len(sums) == 3 + 64
    # Three steps whose places would cancel out in a sum of products.
    other = tensor.clone().reshape(-1).view(torch.int64)
    other[1] += 1
    other[2] += 1
    other[4] -= 1
    assert int(sum_bits(other)) not in sums
