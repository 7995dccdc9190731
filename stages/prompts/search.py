"""Runs of words, looked up in many texts at once.

Words become numbers, a batch of texts one array, and all its n-grams are hashed and looked up by
numpy. Hashes only narrow the search: what is found has been compared word by word.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.lib.stride_tricks import sliding_window_view

from stages.prompts.latex import plain
from stages.prompts.text import normalise_word

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stages.prompts.text import Words

    Numbers = np.ndarray[Any, np.dtype[Any]]

MAX_SPELLINGS = 400_000  # remembered at once, some 100 MB; more are looked at again
FILTER_BITS_PER_GRAM = 16  # of the table that most n-grams are turned away by
_MAX_UINT64 = 2**64 - 1
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # odd, for lack of luck


@dataclass(frozen=True, slots=True)
class Reading:
    """Texts as arrays with an entry per word and a separator after each text."""

    numbers: Numbers  # the words'
    tokens: Numbers  # per word, the sum of its tokens' hashes

    def find_texts(self, positions: Numbers) -> Numbers:
        """Returns which text each position is in, counted from 0."""
        return np.searchsorted(self._ends(), positions)

    def add_up(self, values: Numbers) -> Numbers:
        """Returns the sum of the values in each text."""
        totals = np.cumsum(values, dtype=np.uint64)[self._ends()]
        return np.diff(totals, prepend=np.uint64(0))

    def _ends(self) -> Numbers:
        return np.flatnonzero(self.numbers == Reader.SEPARATOR)


class Reader:
    """Turns texts into numbers: a word that was learnt has its own, and all others one."""

    SEPARATOR, UNKNOWN = 0, 1  # are no words, and in no n-gram
    _NOTHING = -1  # of punctuation alone

    def __init__(self) -> None:
        """Knows no word yet."""
        self.vocabulary: list[str] = ["", ""]  # by number
        self._known: dict[str, int] = {}
        self._forget()

    def learn(self, texts: Iterable[str]) -> Reading:
        """Returns the texts as numbers, with new ones for words that were not known."""
        self._forget()
        reading = self._read(texts, learn=True)
        self._forget()  # what was unknown may be known now
        return reading

    def learn_grams(self, grams: Iterable[Words]) -> Numbers:
        """Returns runs of normalised words as numbers, each with a separator behind."""
        self._forget()
        numbers = [[self._number(word, learn=True) for word in gram] for gram in grams]
        return np.array([n for gram in numbers for n in (*gram, self.SEPARATOR)], dtype=np.int32)

    def read(self, texts: Iterable[str]) -> Reading:
        """Returns the texts as numbers, UNKNOWN for words that were not learnt."""
        if len(self._spellings) > MAX_SPELLINGS:
            self._forget()
        return self._read(texts, learn=False)

    def _forget(self) -> None:
        """Forgets how words were spelt, not the words that were learnt."""
        self._spellings: dict[str, int] = {}  # to an index of the arrays
        self._numbers = np.zeros(0, dtype=np.int32)
        self._tokens = np.zeros(0, dtype=np.uint64)

    def _read(self, texts: Iterable[str], *, learn: bool) -> Reading:
        pieces, spellings = _split([plain(text) for text in texts])
        new = [spelling for spelling in spellings if spelling not in self._spellings]
        self._spellings.update(zip(new, count(len(self._spellings)), strict=False))
        words = [normalise_word(spelling) for spelling in new]
        numbers = [self._number(word, learn=learn) for word in words]
        self._numbers = np.append(self._numbers, np.array(numbers, dtype=np.int32))
        sums = [sum(map(_hash, word.split())) & _MAX_UINT64 for word in words]
        self._tokens = np.append(self._tokens, np.array(sums, dtype=np.uint64))
        indices = np.array([self._spellings[spelling] for spelling in spellings], dtype=np.int64)
        found = np.append(self._numbers[indices], np.int32(self.SEPARATOR))[pieces]
        tokens = np.append(self._tokens[indices], np.uint64(0))[pieces]
        is_word = found != self._NOTHING
        return Reading(found[is_word], tokens[is_word])

    def _number(self, word: str, *, learn: bool) -> int:
        if not word:
            return self._NOTHING
        number = self._known.get(word, self.UNKNOWN)
        if number == self.UNKNOWN and learn:
            number = self._known[word] = len(self.vocabulary)
            self.vocabulary.append(word)
        return number


def _split(texts: list[str]) -> tuple[Numbers, list[str]]:
    """Returns what whitespace separates in the texts, as indices into the distinct spellings.

    The index after their last ends each text.
    """
    split = pc.ascii_split_whitespace(pa.array(texts, pa.large_string()))
    encoded = split.flatten().dictionary_encode()
    spellings: list[str] = encoded.dictionary.to_pylist()
    if len("".join(spellings).split()) > 1:  # Unicode has more spaces
        return _split([" ".join(text.split()) for text in texts])
    pieces = np.insert(encoded.indices.to_numpy(), split.offsets.to_numpy()[1:], len(spellings))
    return pieces, spellings


class NgramTable:
    """The distinct n-grams of some texts, to be found in others."""

    def __init__(self, numbers: Numbers, n: int) -> None:
        """Indexes the n-grams of texts that a `Reader` has learnt; the first of equal ones counts.

        `grams` are their words, and `positions` where in `numbers` each begins.
        """
        self._n = n
        windows = _windows(numbers, n)
        starts = np.flatnonzero(_is_whole(numbers, n))
        for multiplier in _MULTIPLIERS:
            self._multiplier = multiplier
            hashes = self._hash(numbers)[starts] if len(starts) else np.zeros(0, dtype=np.uint64)
            self._hashes, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
            if np.array_equal(windows[starts], windows[starts[first]][inverse]):
                break
        else:
            raise AssertionError("three hash functions in turn give two n-grams one hash")
        self.positions = starts[first]
        self.grams = windows[self.positions]
        num_bits = max(10, (len(first) * FILTER_BITS_PER_GRAM).bit_length())
        self._shift = np.uint64(64 - num_bits)
        self._filter = np.zeros(1 << num_bits, dtype=np.bool_)
        self._filter[self._hashes >> self._shift] = True

    def find(self, numbers: Numbers) -> tuple[Numbers, Numbers]:
        """Returns where in `numbers` an n-gram of the table begins, and which one, by its index."""
        nothing = np.array([], dtype=np.int64)
        if not len(self._hashes) or len(numbers) < self._n:
            return nothing, nothing
        hashes = self._hash(numbers)
        maybe = np.flatnonzero(self._filter[hashes >> self._shift] & _is_whole(numbers, self._n))
        index = np.searchsorted(self._hashes, hashes[maybe])
        index = np.minimum(index, len(self._hashes) - 1)
        same = (_windows(numbers, self._n)[maybe] == self.grams[index]).all(axis=1)
        return maybe[same], index[same]

    def cover(self, numbers: Numbers) -> Numbers:
        """Returns which of the words belong to an n-gram of the table."""
        covered = np.zeros(len(numbers), dtype=np.bool_)
        positions, _ = self.find(numbers)
        for offset in range(self._n):
            covered[positions + offset] = True
        return covered

    def _hash(self, numbers: Numbers) -> Numbers:
        """Returns a hash of each run of n numbers: a polynomial, modulo 2**64.

        Runs of 1, 2, 4, .. numbers are put together, as n has them in binary.
        """
        runs, length, factor = numbers.astype(np.uint64) + np.uint64(1), 1, self._multiplier
        hashes, done = np.zeros(len(numbers) + 1, dtype=np.uint64), 0
        while True:
            if self._n & length:
                num = len(numbers) - done - length + 1
                hashes = hashes[:num] * np.uint64(factor) + runs[done : done + num]
                done += length
            if done == self._n:
                return hashes * np.uint64(self._multiplier)
            runs = runs[:-length] * np.uint64(factor) + runs[length:]
            length, factor = 2 * length, factor * factor & _MAX_UINT64


def _windows(numbers: Numbers, n: int) -> Numbers:
    if len(numbers) < n:
        return np.zeros((0, n), dtype=numbers.dtype)
    return sliding_window_view(numbers, n)


def _is_whole(numbers: Numbers, n: int) -> Numbers:
    """Returns of each run of n numbers whether all are words that were learnt."""
    gaps = np.concatenate([[0], np.cumsum(numbers <= Reader.UNKNOWN)])
    return gaps[n:] == gaps[:-n] if len(numbers) >= n else np.zeros(0, dtype=np.bool_)


def _hash(token: str) -> int:
    return int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8).digest(), "little")
