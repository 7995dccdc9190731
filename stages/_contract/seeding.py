"""Seeds: derived from names and not from positions, and set in every generator that is used."""

from __future__ import annotations

import hashlib
import json


def derive(seed: int, *parts: str | int) -> int:
    """Returns a seed in [0, 2**31) that depends on `seed` and the parts alone.

    It is the start of a SHA-256 digest: the same on every machine, unlike `hash`, and unrelated for
    neighbouring parts, unlike `seed + index`.
    """
    digest = hashlib.sha256(json.dumps([seed, *parts]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def seed_everything(seed: int, num_threads: int) -> None:
    """Seeds random, numpy and torch, fixes torch's threads and asks it for deterministic kernels.

    A sum's rounding depends on how it is split over threads, so their number is part of the result.
    """
    import torch  # noqa: PLC0415 - takes seconds; the contract itself does without it
    from transformers import set_seed  # noqa: PLC0415

    torch.set_num_threads(num_threads)
    set_seed(seed)
    torch.use_deterministic_algorithms(mode=True)
