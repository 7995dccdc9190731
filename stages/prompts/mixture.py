"""Parameters of a mixture: totals, divided by weights. Standard library only, as params.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Totals of problems to train on, and the sources' shares of both."""

    kind: Literal["weights"]
    num_train: int
    num_rl: int
    weights: dict[str, float]

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        for key in ("num_train", "num_rl"):
            if getattr(self, key) < 0:
                raise ValueError(f"prompts.mixture.{key} must be >= 0, not {getattr(self, key)}")
        if not self.weights:
            raise ValueError("prompts.mixture.weights must name a source: or set mixture to null")
        for name, weight in self.weights.items():
            if not 0 < weight < float("inf"):
                raise ValueError(
                    f"prompts.mixture.weights.{name} must be > 0, not {weight}: leave the source "
                    f"out of the mixture instead"
                )

    def divide(self) -> tuple[dict[str, int], dict[str, int]]:
        """Returns how many train and how many rl problems each source gives."""
        return _divide(self.num_train, self.weights), _divide(self.num_rl, self.weights)


def _divide(total: int, weights: dict[str, float]) -> dict[str, int]:
    """Returns whole shares that add up to `total`, by largest remainders (Hare, 1859)."""
    exact = {name: total * weight / sum(weights.values()) for name, weight in weights.items()}
    shares = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (shares[name] - exact[name], name))
    for name in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return shares
