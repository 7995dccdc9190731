"""What became of the data: from problems to splits, and from traces to the rows that SFT reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages._audit.published import read_json
from stages._page.graph import CORE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stages._page.graph import Graph, Stage

# In the order of the stages' code; the counts are those of metrics/.
_PROBLEMS = {
    "invalid": "not to be read, or without an answer",
    "conflicting_answers": "the same question with different answers",
    "duplicates": "the same question again",
    "reserved_as_example": "a worked example, or one with its words",
    "in_other_source": "in another source as well",
    "contaminated_whole": "an evaluation problem's words, in whatever order",
    "contaminated_ngram": "shares a run of words with an evaluation problem",
    "near_duplicates": "nearly another problem",
}
_TRACES = {
    "truncated": "cut off at the limit of tokens",
    "bad_format": "not in the format",
    "wrong_answer": "wrong answer",
    "mixed_language": "right, thought in mixed languages",
    "repetition": "right, thought repeats itself",
    "long_paragraph": "right, a paragraph too long",
    "code_block": "right, code in the thought",
    "pass_rate_low": "right, its problem too hard",
    "pass_rate_high": "right, its problem too easy",
    "duplicate": "right, the same words as another trace",
    "over_cap": "right, enough of its problem kept",
}
_SPLITS = {"evaluate": "evaluation", "rl": "reinforcement learning", "train": "traces for SFT"}


@dataclass(frozen=True, slots=True)
class Step:
    """A bar: what is there, is lost for a reason, or goes to a split."""

    label: str
    count: int
    kind: str  # all | lost | kept | spare
    start: int = 0  # what stands to the left of the bar


@dataclass(frozen=True, slots=True)
class Funnel:
    """The steps from all that there was to what was kept."""

    title: str
    unit: str
    total: int
    steps: list[Step]
    note: str = ""


def read_funnels(root: Path, graph: Graph) -> dict[str, list[Funnel]]:
    """Returns by graph the funnels of its `prompts` and `filter` stages that have metrics."""
    found: dict[str, list[Funnel]] = {}
    for stage in graph.stages.values():
        if stage.kind not in ("prompts", "filter"):
            continue
        path = next((root / out.path for out in stage.outs if out.path.endswith(".json")), None)
        if path is None or not path.is_file():
            continue
        metrics = read_json(path)
        if stage.kind == "prompts":
            made = [count_problems(_name(stage, s), found_s) for s, found_s in metrics.items()]
        else:
            made = [count_traces(_name(stage), metrics, _find_reader(root, graph, stage))]
        found.setdefault(stage.graph, []).extend(made)
    return found


def _name(stage: Stage, source: str | None = None) -> str:
    parts = [source] if source else []
    if stage.graph != CORE or not source:
        parts = [stage.name, *parts]
    return ": ".join(parts)


def _find_reader(root: Path, graph: Graph, stage: Stage) -> tuple[str, int] | None:
    """Returns the SFT stage behind a `filter`, and how many rows it read."""
    for other in graph.stages.values():
        path = next((root / o.path for o in other.outs if o.path.endswith(".json")), None)
        if other.kind == "sft" and stage.address in other.needs and path and path.is_file():
            return other.name, int(read_json(path)["num_samples"])
    return None


def _take(total: int, losses: Sequence[tuple[str, int]]) -> tuple[list[Step], int]:
    """Returns a step for each loss that took place, and what is left."""
    steps, left = [], total
    for label, count in losses:
        if count:
            left -= count
            steps.append(Step(label, count, "lost", left))
    return steps, left


def count_problems(title: str, found: Mapping[str, Any]) -> Funnel:
    """Returns a source's funnel: rows, what was dropped, the splits, and what nobody asked for.

    Args:
        title: the source's name.
        found: its entry in the metrics of `prompts`.
    """
    source = found["source"]
    splits = found.get("splits") or {"train": found["kept"]}  # of published traces
    known = {**_PROBLEMS, **{k: k for k in source if k not in (*_PROBLEMS, "rows", "distinct")}}
    total = source["rows"] + source.get("invalid", 0)
    losses = [(label, source.get(key, 0)) for key, label in known.items()]
    steps, left = _take(total, losses)
    for split, count in splits.items():
        if count:
            left -= count
            steps.append(Step(f"for {_SPLITS.get(split, split)}", count, "kept", left))
    if left:
        steps.append(Step("left over", left, "spare"))
    return Funnel(title, "problems", total, [Step("read or drawn", total, "all"), *steps])


def count_traces(title: str, found: Mapping[str, Any], reader: tuple[str, int] | None) -> Funnel:
    """Returns the funnel from the model's traces to the rows of train.jsonl.

    Args:
        title: the stage's name.
        found: the metrics of `filter`.
        reader: the SFT stage that reads the rows, and how many it read.
    """
    total = found["num_generated"]
    rejects = found["rejects"]
    known = {**_TRACES, **{key: key for key in rejects if key not in _TRACES}}
    steps, left = _take(total, [(label, rejects.get(key, 0)) for key, label in known.items()])
    steps = [Step("written by the model", total, "all"), *steps]
    steps.append(Step("kept", found["num_kept"], "kept", left - found["num_kept"]))
    parts = [
        f"{found['num_prompts_kept']:,} of {found['num_prompts']:,} problems have a trace left"
    ]
    parts += [f"{count:,} rows of {path} are mixed in" for path, count in found["mixed"].items()]
    parts.append(f"train.jsonl has {found['num_rows']:,} rows")
    if reader:
        parts.append(f"{reader[0]} read {reader[1]:,}")
    return Funnel(title, "traces", total, steps, "; ".join(parts) + ".")
