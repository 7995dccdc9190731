"""A source's distinct problems in their seeded order: on the disk, but for what orders them.

A source of a million problems has some gigabytes of text. Each problem is written once to a file
without a name and read back when its turn comes; in memory there are some 400 bytes of each.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import weakref
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from stages._contract.seeding import derive
from stages.prompts.sources import Problem
from stages.prompts.text import normalise, sort_words

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path


class Store:
    """Problems in a file without a name, which vanishes with the process, however that ends."""

    def __init__(self, folder: Path) -> None:
        """Opens a new file in the folder."""
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as `self` is
        weakref.finalize(self, self._file.close)
        self._end = 0

    def add(self, problem: Problem) -> int:
        """Returns the offset by which the problem is read back."""
        offset = self._end
        fields = (problem.question, problem.answer, problem.solution, problem.columns)
        self._file.seek(offset)
        self._end += self._file.write(json.dumps(fields).encode() + b"\n")
        return offset

    def read(self, offset: int) -> Problem:
        """Returns the problem at the offset."""
        self._file.seek(offset)
        return Problem(*json.loads(self._file.readline()))


class Entry(NamedTuple):
    """A problem of a pool. Equal questions, once normalised, have equal keys."""

    order: int  # a hash of seed and text
    key: bytes
    offset: int


@dataclass(slots=True)
class Pool:
    """The problems that are left of a source, in their order, and what happened to the others."""

    entries: list[Entry]
    counts: Counter[str]
    store: Store

    def read(self, entry: Entry) -> Problem:
        """Returns an entry's problem."""
        return self.store.read(entry.offset)


@dataclass(slots=True)
class _Group:
    """The rows with one question."""

    order: int
    offset: int  # of the first by question, answer, solution and columns
    is_example: bool
    num_rows: int = 1
    is_conflicting: bool = False


def make_pool(
    problems: Iterable[Problem], seed: int, store: Store, examples: Collection[str]
) -> Pool:
    """Returns the distinct problems, by normalised question, ordered by a hash of seed and text.

    Repeats are dropped; questions that occur with different answers are dropped altogether, since
    one of the answers is wrong.

    Args:
        examples: questions of the worked examples; problems of the same words are left out.
    """
    shown = {sort_words(normalise(question)) for question in examples}
    lengths = {len(text) for text in shown}
    groups: dict[bytes, _Group] = {}
    for problem in problems:
        text = normalise(problem.question)
        key = hashlib.sha256(text.encode()).digest()[:16]
        group = groups.get(key)
        if group is None:
            is_example = len(text) in lengths and sort_words(text) in shown
            order = derive(seed, "prompts", text)
            groups[key] = _Group(order, store.add(problem), is_example)
            continue
        group.num_rows += 1
        first = store.read(group.offset)
        group.is_conflicting |= problem.answer != first.answer
        if problem < first:
            group.offset = store.add(problem)
    return _order(groups, store)


def _order(groups: dict[bytes, _Group], store: Store) -> Pool:
    counts: Counter[str] = Counter(
        rows=0, duplicates=0, conflicting_answers=0, distinct=0, reserved_as_example=0
    )
    entries = []
    for key, group in groups.items():
        counts["rows"] += group.num_rows
        if group.is_conflicting:
            counts["conflicting_answers"] += group.num_rows
            continue
        counts["duplicates"] += group.num_rows - 1
        counts["distinct"] += 1
        if group.is_example:
            counts["reserved_as_example"] += 1
        else:
            entries.append(Entry(group.order, key, group.offset))
    entries.sort()
    return Pool(entries, counts, store)
