"""reasoning-gym's own score of an answer to one of its procedural problems, in [0, 1].

reasoning-gym (arXiv 2505.24760) verifies by program: most data sets have many right answers, and
some give part of the score for a part. The value is that of the data set's `score_answer` on what
is inside `<answer>`, except:

1. A completion that is not in the format scores 0.0: some data sets give 0.01 for any text.
2. An answer on which `score_answer` raises scores 0.0, if it does not raise on the reference too:
   `prime_factorization` raises on a word.
3. The answer is the model's, so it is never run. Four data sets `eval` it: here as a literal. Five
   parse it by sympy, which runs Python: here names of functions and variables of mathematics,
   numbers and operators only; anything else scores 0.0.
"""

from __future__ import annotations

import importlib
import json
import re
from ast import literal_eval
from functools import cache
from typing import TYPE_CHECKING, Any

from stages.filter.verify import parse
from stages.grpo.rewards.completions import read_texts
from stages.grpo.rewards.verifier import compare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stages.grpo.rewards.completions import Completions, Prompts

_EVALUATING = ("binary_matrix", "n_queens", "spiral_matrix", "string_insertion")
_PARSING = (
    "countdown",
    "intermediate_integration",
    "polynomial_multiplication",
    "puzzle24",
    "simple_integration",
)
_OF_TUPLES = ("arc_agi", "rearc")  # compare grids of tuples, which are lists in JSON
_FORMULA = re.compile(r"[0-9A-Za-z\s+\-*/^().,=]*", re.ASCII)
_ATTRIBUTE = re.compile(r"\.\s*[A-Za-z]")
_NAME = re.compile(r"(?<![0-9A-Za-z])[A-Za-z][0-9A-Za-z]*")
_FUNCTION = re.compile(r"[A-Za-z]|a?(?:sin|cos|tan)h?|acot|cot|csc|sec|exp|ln|log|sqrt|pi|Abs")


def reasoning_gym_reward(
    completions: Completions,
    reasoning_gym: Sequence[str | None],
    *,
    prompts: Prompts | None = None,
    **columns: object,
) -> list[float | None]:
    """Returns reasoning-gym's score of each completion's answer, in [0, 1].

    None: the row has no such column's value, or the scorer exceeds the verifier's limits or cannot
    score and there is no reference to tell why.

    Args:
        completions: in the format of `stages.filter.verify.parse`.
        reasoning_gym: JSON text of `dataset`, reasoning-gym's name; `config`, the settings it was
            created with, by which `puzzle24` scores; `entry`: question, answer, metadata. The
            stage `prompts` writes it.
        prompts: as in `read_texts`.
        columns: not used.

    Raises:
        ValueError: a row names an unknown data set, or is not a row of it.
    """
    del columns
    texts = read_texts(completions, prompts)
    pairs = []
    for text, row in zip(texts, reasoning_gym, strict=True):
        response = parse(text)
        if row is not None and response is not None:
            pairs.append((response.answer, row))
    scores = iter(compare(_score, pairs))
    return [
        None if row is None else 0.0 if parse(text) is None else next(scores)
        for text, row in zip(texts, reasoning_gym, strict=True)
    ]


def _score(answer: str, row: str) -> float | None:
    try:
        data = json.loads(row)
        dataset, config, entry = data["dataset"], data.get("config", {}), data["entry"]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the column reasoning_gym has {row!r:.200}, which is not a JSON object with dataset "
            f"and entry: have the stage prompts write it"
        ) from error
    if dataset in _OF_TUPLES:
        entry = _freeze(entry)
    scorer = _find_scorer(dataset, json.dumps(config, sort_keys=True))
    if dataset in _PARSING and not _is_formula(answer):
        return 0.0
    try:
        score = scorer(answer, entry)
    except Exception as error:  # noqa: BLE001 - the reference tells whose fault it is
        reference = entry.get("answer") if isinstance(entry, dict) else None
        if not isinstance(reference, str) or not reference:
            return None
        try:
            scorer(reference, entry)
        except Exception:  # noqa: BLE001
            raise ValueError(
                f"{dataset} cannot score its own reference {reference!r:.100}: {error!r}; the row "
                f"is not one of this data set's, or does not survive JSON"
            ) from error
        return 0.0
    return min(1.0, max(0.0, float(score)))


@cache
def _find_scorer(dataset: str, config: str) -> Callable[[str, dict[str, Any]], float]:
    factory = importlib.import_module("reasoning_gym.factory")
    if dataset not in factory.DATASETS:
        raise ValueError(f"the column reasoning_gym names {dataset!r}, which reasoning-gym lacks")
    kind, settings = factory.DATASETS[dataset]
    try:
        instance = kind(config=settings(**json.loads(config)))
    except (AssertionError, TypeError, ValueError) as error:  # how reasoning-gym validates
        raise ValueError(f"{config} is not a configuration of {dataset}: {error}") from error
    if dataset in _EVALUATING:
        vars(importlib.import_module(kind.__module__))["eval"] = literal_eval
    scorer: Callable[[str, dict[str, Any]], float] = instance.score_answer
    return scorer


def _freeze(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _freeze(item) for key, item in value.items()}
    return tuple(map(_freeze, value)) if isinstance(value, list) else value


def _is_formula(answer: str) -> bool:
    return (
        bool(_FORMULA.fullmatch(answer))
        and not _ATTRIBUTE.search(answer)
        and all(_FUNCTION.fullmatch(name) for name in _NAME.findall(answer))
    )
