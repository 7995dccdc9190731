"""Problems that are nearly another one: a word changed, a number, a sentence added.

By MinHash (Broder, 1997) with banding, as in Leskovec, Rajaraman and Ullman, Mining of Massive
Datasets, chapter 3, from the library rensa: what is compared are the sets of runs of `ngram` tokens
of two questions. The library's hashes depend on the seed alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.prompts.text import normalise

if TYPE_CHECKING:
    from stages.prompts.params import MinHash


class NearDuplicates:
    """The questions so far; a new one is refused if one of them is nearly the same."""

    def __init__(self, params: MinHash, seed: int) -> None:
        """Knows no question yet."""
        import rensa  # noqa: PLC0415 - not in every image, and seldom needed

        self._ngram = params.ngram
        self._found = rensa.RMinHashDeduplicator(
            params.threshold, params.num_perm, use_lsh=True, num_bands=params.num_bands, seed=seed
        )

    def add(self, question: str) -> bool:
        """Returns whether the question is a new one, and remembers it if so."""
        tokens = normalise(question).split()
        num = max(1, len(tokens) - self._ngram + 1)
        runs = [" ".join(tokens[start : start + self._ngram]) for start in range(num)]
        return bool(self._found.add_pairs([(str(self._found.len()), runs)])[0])
