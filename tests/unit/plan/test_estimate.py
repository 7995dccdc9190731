"""What the estimates count: the rows that stages will work on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stages._contract.params import load_all
from stages._plan.estimate import num_traces
from stages.prompts.mixture import Mixture

SECTIONS = load_all(Path(__file__).parents[3] / "params.yaml")


def test_traces_are_counted_per_problem() -> None:
    assert num_traces(SECTIONS) == 240 * 4


def test_problems_of_a_mixture_are_counted() -> None:
    prompts = SECTIONS["prompts"]
    sources = {
        name: replace(source, num_train=0, num_rl=0) for name, source in prompts.sources.items()
    }
    weights = {"arithmetic": 3.0, "larger_sums": 1.0}
    mixture = Mixture(kind="weights", num_train=100, num_rl=10, weights=weights)
    mixed = replace(prompts, sources=sources, mixture=mixture)
    assert num_traces({**SECTIONS, "prompts": mixed}) == 100 * 4
