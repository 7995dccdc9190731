"""What the estimates count: the rows that stages will work on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages._contract.params import load_all
from stages._plan.estimate import num_traces, render_estimates
from stages.prompts.mixture import Mixture
from stages.prompts.params import HubTraces, JsonlTraces

SECTIONS = load_all(Path(__file__).parents[3] / "params.yaml")


def test_traces_are_counted_per_problem() -> None:
    assert num_traces(SECTIONS) == 240 * 4


def with_traces(traces: JsonlTraces | HubTraces) -> dict[str, Any]:
    """Returns the parameters of a recipe that trains on published traces."""
    sft = replace(SECTIONS["sft"], dataset="artifacts/prompts/traces.jsonl")
    return {**SECTIONS, "sft": sft, "prompts": replace(SECTIONS["prompts"], traces=traces)}


LOCAL = JsonlTraces(
    kind="jsonl",
    path="mine.jsonl",
    sha256="0" * 64,
    messages_field="messages",
    max_rows=None,
    max_invalid=0,
)
PUBLISHED = HubTraces(
    kind="hub",
    repo="open-r1/Mixture-of-Thoughts",
    revision="0" * 40,
    subset="all",
    split="train",
    messages_field="messages",
    max_rows=None,
    max_invalid=0,
)


def test_published_traces_are_as_many_as_their_card_says_or_as_are_read() -> None:
    assert num_traces(with_traces(PUBLISHED)) == 350_000
    assert num_traces(with_traces(replace(PUBLISHED, max_rows=7))) == 7
    assert num_traces(with_traces(replace(LOCAL, max_rows=7))) == 7


@pytest.mark.parametrize(
    ("traces", "name"),
    [(LOCAL, "mine.jsonl"), (replace(PUBLISHED, repo="others/traces"), "others/traces")],
)
def test_traces_of_unknown_number_have_no_estimate(
    traces: JsonlTraces | HubTraces, name: str
) -> None:
    with pytest.raises(ValueError, match=f"prompts.traces.max_rows is null.*{name}.*set it to"):
        render_estimates("params.yaml", with_traces(traces))


def test_problems_of_a_mixture_are_counted() -> None:
    prompts = SECTIONS["prompts"]
    sources = {
        name: replace(source, num_train=0, num_rl=0) for name, source in prompts.sources.items()
    }
    weights = {"arithmetic": 3.0, "larger_sums": 1.0}
    mixture = Mixture(kind="weights", num_train=100, num_rl=10, weights=weights)
    mixed = replace(prompts, sources=sources, mixture=mixture)
    assert num_traces({**SECTIONS, "prompts": mixed}) == 100 * 4
