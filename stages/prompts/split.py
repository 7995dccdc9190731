"""From the sources' problems to disjoint splits.

Every source is first reduced to its distinct problems and put in an order that depends on the seed
and the problems alone: not on the order of rows, nor on the other sources. Evaluation problems come
off the front; rl and train problems are then drawn from the rest, passing over leaks and, if asked
for, near duplicates. All splits are thus samples of the same distribution, and adding a source or
asking for more training problems leaves the evaluation problems as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

from stages.prompts.decontaminate import LeakDetector, find_boilerplate
from stages.prompts.matches import Matches
from stages.prompts.near_duplicates import NearDuplicates
from stages.prompts.params import count_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from stages.prompts.params import Counts, DecontaminationParams, PromptsParams
    from stages.prompts.pool import Entry, Pool
    from stages.prompts.sources import Problem
    from stages.prompts.text import Words

Row = dict[str, Any]
Drawn = tuple["Entry", str]  # and the source's name
_REMOVED = (
    "duplicates",
    "conflicting_answers",
    "reserved_as_example",
    "in_other_source",
    "contaminated_ngram",
    "contaminated_whole",
    "near_duplicates",
)
_BATCH = 2000  # problems whose leaks are looked for at once


class Rows(Sequence[Row]):
    """Rows that are made when they are asked for, and need not fit into memory together."""

    def __init__(self, drawn: Sequence[Drawn], make: Callable[[Entry, str], Row]) -> None:
        """Keeps where the problems are, and how a row is made of one."""
        self._drawn, self._make = drawn, make

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self._drawn)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Row | Rows:
        """Returns a row, or those of a slice."""
        if isinstance(index, slice):
            return Rows(self._drawn[index], self._make)
        return self._make(*self._drawn[index])


@dataclass(frozen=True, slots=True)
class Splits:
    """The rows of each split, what finds leaks of `evaluate`, and how it all came about."""

    train: Rows
    rl: Rows
    evaluate: dict[str, Rows]
    detector: LeakDetector
    matches: dict[str, Matches]
    report: dict[str, Any]


def split(
    pools: Mapping[str, Pool], params: PromptsParams, against: Iterable[tuple[str, Problem]]
) -> Splits:
    """Returns the splits that `params.sources` ask for, drawn from `pools`, which it uses up.

    Args:
        against: evaluation problems that are in no split, with an id for each.

    Raises:
        ValueError: a source has too few problems; the message says how many there are.
    """
    names = sorted(pools)
    asked = {name: count_problems(params, name) for name in names}
    boilerplate = {name: _find_boilerplate(pools[name], params.decontamination) for name in names}
    evaluation = {name: _take_evaluation(name, pools[name], asked[name]) for name in names}
    used = {entry.key for entries in evaluation.values() for entry in entries}
    held_out = [*_identify_all(pools, evaluation), *against]
    near = None
    if params.near_duplicates is not None:
        near = NearDuplicates(params.near_duplicates, params.seed)
        for _, problem in held_out:
            near.add(problem.question)
    detector = LeakDetector(
        held_out,
        [gram for grams in boilerplate.values() for gram in grams],
        params.decontamination,
    )
    matches = {name: Matches(name, params.decontamination.max_matches) for name in names}
    drawn: dict[str, list[Drawn]] = {"rl": [], "train": []}
    for name in names:
        clean = _clean(name, pools[name], used, detector, matches[name], near)
        for part, num in (("rl", asked[name].num_rl), ("train", asked[name].num_train)):
            entries = list(islice(clean, num))
            if len(entries) < num:
                raise ValueError(_too_few(name, pools[name], asked[name], matches[name]))
            drawn[part] += [(entry, name) for entry in entries]

    def make_row(fields: Sequence[str]) -> Callable[[Entry, str], Row]:
        return lambda entry, name: _row(name, pools[name].read(entry), params.system_prompt, fields)

    training = [
        params.sources[name] for name in names if asked[name].num_train + asked[name].num_rl
    ]
    columns = sorted({column for source in training for column in source.columns})
    report = {
        "decontamination": _describe(boilerplate, params.decontamination),
        "tasks": {name: _report(pools[name], asked[name], matches[name]) for name in names},
    }
    return Splits(
        train=Rows(_mix(drawn["train"]), make_row(columns)),
        rl=Rows(_mix(drawn["rl"]), make_row(columns)),
        evaluate={
            name: Rows([(entry, name) for entry in entries], make_row(params.sources[name].columns))
            for name, entries in evaluation.items()
            if entries
        },
        detector=detector,
        matches=matches,
        report=report,
    )


def _find_boilerplate(pool: Pool, params: DecontaminationParams) -> dict[Words, float]:
    first = pool.entries[: params.boilerplate.num_rows]
    return find_boilerplate([pool.read(entry) for entry in first], params.boilerplate)


def _take_evaluation(name: str, pool: Pool, asked: Counts) -> list[Entry]:
    num = asked.num_evaluate
    if len(pool.entries) < num:
        raise ValueError(_too_few(name, pool, asked, Matches(name, 0)))
    taken, pool.entries = pool.entries[:num], pool.entries[num:]
    return taken


def _identify_all(
    pools: Mapping[str, Pool], evaluation: Mapping[str, list[Entry]]
) -> Iterator[tuple[str, Problem]]:
    """Yields the evaluation problems of all sources, with an id for each."""
    for name, entries in evaluation.items():
        for problem in map(pools[name].read, entries):
            yield _identify(name, problem), problem


def _clean(
    name: str,
    pool: Pool,
    used: set[bytes],
    detector: LeakDetector,
    matches: Matches,
    near: NearDuplicates | None,
) -> Iterator[Entry]:
    """Yields the problems that are in no other split and leak nothing; counts the others."""
    pool.counts.update(in_other_source=0, contaminated_ngram=0, contaminated_whole=0)
    if near is not None:
        pool.counts["near_duplicates"] = 0
    for start in range(0, len(pool.entries), _BATCH):
        entries = pool.entries[start : start + _BATCH]
        problems = [pool.read(entry) for entry in entries]
        found = detector.match_all(problems)
        for entry, problem, match in zip(entries, problems, found, strict=True):
            if entry.key in used:  # by another source: a pool itself is free of repeats
                pool.counts["in_other_source"] += 1
            elif match is not None:
                pool.counts[f"contaminated_{match.reason}"] += 1
                matches.add(_identify(name, problem), problem, match)
            elif near is not None and not near.add(problem.question):
                pool.counts["near_duplicates"] += 1
            else:
                used.add(entry.key)
                yield entry


def _mix(drawn: list[Drawn]) -> list[Drawn]:
    """Returns the problems of all sources in one seeded order, so that no task comes in a block."""
    return sorted(drawn)


def _row(task: str, problem: Problem, system_prompt: str | None, columns: Sequence[str]) -> Row:
    """Returns a row with the columns, null where its own source has none.

    `Dataset.from_list` takes its columns from the first row and drops those that only others have.
    """
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


def _too_few(name: str, pool: Pool, asked: Counts, matches: Matches) -> str:
    removed = {reason: pool.counts[reason] for reason in _REMOVED}
    num_usable = pool.counts["rows"] - sum(removed.values())
    message = (
        f"prompts.sources.{name} is asked for {asked.num_evaluate} evaluation, {asked.num_rl} rl "
        f"and {asked.num_train} train problems, but of its {pool.counts['rows']} rows only "
        f"{num_usable} can be used (removed: {removed}): ask for fewer (by prompts.mixture, if it "
        f"names the source), or provide more rows (num_draws for reasoning-gym)"
    )
    if matches.examples:
        example = matches.examples[0]
        message += (
            f"; {example['id']} for example shares {example['shared']!r} with "
            f"{example['evaluation_id']}: if that is a template's text, see "
            f"prompts.decontamination.boilerplate"
        )
    return message


def _report(pool: Pool, asked: Counts, matches: Matches) -> dict[str, Any]:
    return {
        "source": dict(pool.counts),
        "splits": {"evaluate": asked.num_evaluate, "rl": asked.num_rl, "train": asked.num_train},
        **matches.report(),
    }


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
