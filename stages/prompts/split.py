"""From the sources' problems to disjoint splits.

Every source is first reduced to its distinct problems and put in an order that depends on the seed
and the problems alone: not on the order of rows, nor on the other sources. Evaluation problems come
off the front; rl and train problems are then drawn from the rest, passing over leaks. All splits
are thus samples of the same distribution, and adding a source or asking for more training problems
leaves the evaluation problems as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from stages._contract.seeding import derive
from stages.prompts.decontaminate import LeakDetector, find_boilerplate
from stages.prompts.text import normalise, sort_words

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from stages.prompts.decontaminate import Match
    from stages.prompts.params import DecontaminationParams, PromptsParams, Source
    from stages.prompts.sources import Problem
    from stages.prompts.text import Words

Row = dict[str, Any]
_REMOVED = (
    "duplicates",
    "conflicting_answers",
    "reserved_as_example",
    "in_other_source",
    "contaminated_ngram",
    "contaminated_whole",
)
MAX_EXAMPLES = 20  # removed problems shown per task; all are counted


@dataclass(slots=True)
class Pool:
    """One source's distinct problems in their seeded order, and what happened to the others."""

    problems: list[tuple[str, Problem]]
    counts: Counter[str]
    examples: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Splits:
    """The rows of each split, what finds leaks of `evaluate`, and how it all came about."""

    train: list[Row]
    rl: list[Row]
    evaluate: dict[str, list[Row]]
    detector: LeakDetector = field(compare=False)
    report: dict[str, Any]


def make_pool(problems: Sequence[Problem], seed: int) -> Pool:
    """Returns the distinct problems, by normalised question, ordered by a hash of seed and text.

    Repeats are dropped; questions that occur with different answers are dropped altogether, since
    one of the answers is wrong.
    """
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(normalise(problem.question), []).append(problem)
    counts: Counter[str] = Counter(rows=len(problems), duplicates=0, conflicting_answers=0)
    kept = []
    for key, group in groups.items():
        if len({problem.answer for problem in group}) > 1:
            counts["conflicting_answers"] += len(group)
        else:
            counts["duplicates"] += len(group) - 1
            kept.append((key, min(group)))
    kept.sort(key=lambda entry: (derive(seed, "prompts", entry[0]), entry[0]))
    counts["distinct"] = len(kept)
    return Pool(kept, counts)


def split(pools: Mapping[str, Pool], params: PromptsParams, examples: Collection[str]) -> Splits:
    """Returns the splits that `params.sources` ask for, drawn from `pools`, which it uses up.

    Args:
        examples: questions of the worked examples; no split gets a problem of the same words.

    Raises:
        ValueError: a source has too few problems; the message says how many there are.
    """
    names = sorted(pools)
    shown = {sort_words(normalise(question)) for question in examples}
    for pool in pools.values():
        _reserve(pool, shown)
    boilerplate = {
        name: find_boilerplate(
            [problem for _, problem in pools[name].problems], params.decontamination.boilerplate
        )
        for name in names
    }
    evaluation = {name: _take_evaluation(name, pools[name], params) for name in names}
    used = {key for entries in evaluation.values() for key, _ in entries}
    detector = LeakDetector(
        ((_identify(name, problem), problem) for name in names for _, problem in evaluation[name]),
        [gram for grams in boilerplate.values() for gram in grams],
        params.decontamination,
    )
    drawn: dict[str, list[tuple[str, str, Problem]]] = {"rl": [], "train": []}
    for name in names:
        clean = _clean(name, pools[name], used, detector)
        source = params.sources[name]
        for part, num in (("rl", source.num_rl), ("train", source.num_train)):
            entries = list(islice(clean, num))
            if len(entries) < num:
                raise ValueError(_too_few(name, pools[name], source))
            drawn[part] += [(name, key, problem) for key, problem in entries]
    splits = {part: _mix(entries, params) for part, entries in drawn.items()}
    evaluate = {
        name: [
            _row(name, problem, params.system_prompt, params.sources[name].columns)
            for _, problem in entries
        ]
        for name, entries in evaluation.items()
        if entries
    }
    report = {
        "decontamination": _describe(boilerplate, params.decontamination),
        "tasks": {name: _report(pools[name], params.sources[name]) for name in names},
    }
    return Splits(splits["train"], splits["rl"], evaluate, detector, report)


def _reserve(pool: Pool, examples: set[str]) -> None:
    free = [(key, problem) for key, problem in pool.problems if sort_words(key) not in examples]
    pool.counts["reserved_as_example"] = len(pool.problems) - len(free)
    pool.problems = free


def _take_evaluation(name: str, pool: Pool, params: PromptsParams) -> list[tuple[str, Problem]]:
    num = params.sources[name].num_evaluate
    if len(pool.problems) < num:
        raise ValueError(_too_few(name, pool, params.sources[name]))
    taken, pool.problems = pool.problems[:num], pool.problems[num:]
    return taken


def _clean(
    name: str, pool: Pool, used: set[str], detector: LeakDetector
) -> Iterator[tuple[str, Problem]]:
    """Yields the problems that are in no other split and leak nothing; counts the others."""
    pool.counts.update(in_other_source=0, contaminated_ngram=0, contaminated_whole=0)
    for key, problem in pool.problems:
        if key in used:  # by another source: a pool itself is free of repeats
            pool.counts["in_other_source"] += 1
            continue
        match = detector.match(problem)
        if match is not None:
            pool.counts[f"contaminated_{match.reason}"] += 1
            if len(pool.examples) < MAX_EXAMPLES:
                pool.examples.append(_example(name, problem, match))
            continue
        used.add(key)
        yield key, problem


def _mix(entries: list[tuple[str, str, Problem]], params: PromptsParams) -> list[Row]:
    """Returns the rows of all sources in one seeded order, so that no task comes in a block.

    Each has the columns of all such sources, null where its own source has none:
    `Dataset.from_list` takes its columns from the first row and drops those that only others have.
    """
    sources = [source for source in params.sources.values() if source.num_train or source.num_rl]
    columns = sorted({name for source in sources for name in source.columns})
    entries.sort(key=lambda entry: (derive(params.seed, "prompts", entry[1]), entry[1]))
    return [_row(name, problem, params.system_prompt, columns) for name, _, problem in entries]


def _row(task: str, problem: Problem, system_prompt: str | None, columns: Sequence[str]) -> Row:
    values = json.loads(problem.columns)
    prompt = [{"role": "user", "content": problem.question}]
    if system_prompt is not None:
        prompt.insert(0, {"role": "system", "content": system_prompt})
    return {
        "id": _identify(task, problem),
        "task": task,
        "prompt": prompt,
        "answer": problem.answer or None,  # None: the columns say what is right
        **{name: values.get(name) for name in columns},
    }


def _identify(task: str, problem: Problem) -> str:
    return f"{task}-{hashlib.sha256(problem.question.encode()).hexdigest()[:12]}"


def _example(name: str, problem: Problem, match: Match) -> dict[str, str]:
    return {
        "id": _identify(name, problem),
        "question": problem.question,
        "reason": match.reason,
        "evaluation_id": match.evaluation_id,
        "shared": match.shared,
    }


def _too_few(name: str, pool: Pool, source: Source) -> str:
    removed = {reason: pool.counts[reason] for reason in _REMOVED}
    num_usable = pool.counts["rows"] - sum(removed.values())
    message = (
        f"prompts.sources.{name} asks for {source.num_evaluate} evaluation, {source.num_rl} rl and "
        f"{source.num_train} train problems, but of its {pool.counts['rows']} rows only "
        f"{num_usable} can be used (removed: {removed}): ask for fewer, or provide more rows "
        f"(num_draws for reasoning-gym)"
    )
    if pool.examples:
        example = pool.examples[0]
        message += (
            f"; {example['id']} for example shares {example['shared']!r} with "
            f"{example['evaluation_id']}: if that is a template's text, see "
            f"prompts.decontamination.boilerplate"
        )
    return message


def _report(pool: Pool, source: Source) -> dict[str, Any]:
    counts = {
        "evaluate": source.num_evaluate,
        "rl": source.num_rl,
        "train": source.num_train,
    }
    return {"source": dict(pool.counts), "splits": counts, "removed_examples": pool.examples}


def _describe(
    boilerplate: Mapping[str, Mapping[Words, float]], params: DecontaminationParams
) -> dict[str, Any]:
    return {
        "ngram": params.ngram,
        "boilerplate": {
            name: {" ".join(gram): frequency for gram, frequency in grams.items()}
            for name, grams in boilerplate.items()
        },
    }
