"""A model whose responses are kept in files: lm-eval asks it, the engine answers what is missing.

So an evaluation that was killed goes on, and several jobs can share one.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from stages._contract.artifacts import read_jsonl, write_jsonl
from stages.evaluate.shards import is_recorded

if TYPE_CHECKING:
    from pathlib import Path

    from stages.evaluate.backend import SeededVLLM

_OPEN_THOUGHT = re.compile(r"<think>\s*\Z")


class Recorded(LM):  # type: ignore[misc]  # lm-eval ships no types
    """Answers from shards, and writes those that are missing with the engine's answers.

    Each shard is asked at once and by itself, so that an engine whose sums depend on the batch
    answers the same, whichever shards one run asks.
    """

    def __init__(
        self, shards: dict[Path, list[str]], num_samples: int, engine: SeededVLLM | None
    ) -> None:
        """Answers these problems, named by shard; without an engine all shards must be there."""
        super().__init__()
        self._shards, self._num_samples, self._engine = shards, num_samples, engine
        self.num_tokens: dict[str, list[int]] = {}

    @property
    def tokenizer_name(self) -> str:
        """Returns a name for lm-eval's cache of requests, which is not used."""
        return ""

    def apply_chat_template(
        self,
        chat_history: list[dict[str, str]],
        add_generation_prompt: bool = True,  # noqa: FBT001, FBT002 - lm-eval's signature
    ) -> str:
        """Returns the prompt's text; without an engine nobody reads it."""
        if self._engine is None:
            return json.dumps(chat_history)
        return str(self._engine.apply_chat_template(chat_history, add_generation_prompt))

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Returns one text per request, in their order."""
        places: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            places.setdefault(request.doc["id"], []).append(place)
        texts = [""] * len(requests)
        for path, names in self._shards.items():
            if not is_recorded(path, names, self._num_samples):
                self._record(path, names, [requests[i] for name in names for i in places[name]])
            for row in read_jsonl(path):
                self.num_tokens[row["id"]] = row["num_tokens"]
                for place, text in zip(places[row["id"]], row["responses"], strict=True):
                    texts[place] = text
        return texts

    def _record(self, path: Path, names: list[str], requests: list[Any]) -> None:
        assert self._engine is not None, "a shard is missing"
        # Some chat templates open the thought themselves, at the prompt's end, as those of
        # DeepSeek-R1-Distill. Without that tag nobody could see that a response never closes it.
        opened = [_OPEN_THOUGHT.search(request.args[0]) for request in requests]
        texts = [
            (found[0] if found else "") + text
            for found, text in zip(opened, self._engine.generate_until(requests), strict=True)
        ]
        each = self._num_samples
        write_jsonl(
            path,
            (
                {
                    "id": name,
                    "responses": texts[number * each : (number + 1) * each],
                    "num_tokens": self._engine.num_tokens[name],
                }
                for number, name in enumerate(names)
            ),
        )

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Is not asked: the tasks only generate."""
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Is not asked: the tasks only generate."""
        raise NotImplementedError
