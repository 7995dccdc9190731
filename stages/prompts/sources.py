"""Reading the sources: every row becomes a `Problem`."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import read_jsonl, sha256_file
from stages._contract.seeding import derive
from stages.prompts.params import HubSource, JsonlSource, ReasoningGymSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stages.prompts.params import Source


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One problem as its source gives it.

    `solution` is the reference solution where the source has one, else the answer again: what is
    compared when leaks are looked for.
    """

    question: str
    answer: str
    solution: str


def read_source(task: str, source: Source, seed: int) -> tuple[list[Problem], int]:
    """Returns the source's problems, repeats included, and the number of invalid rows dropped.

    Raises:
        ValueError: the source cannot be had, is not what its pin says, is empty, or has more
            invalid rows than `max_invalid`; names prompts.sources.<task>.
    """
    key = f"prompts.sources.{task}"
    match source:
        case ReasoningGymSource():
            problems, num_invalid = _draw(key, source, derive(seed, "prompts", task)), 0
        case JsonlSource():
            problems, num_invalid = _parse(key, source, _read_file(key, source))
        case HubSource():
            problems, num_invalid = _parse(key, source, _load_dataset(key, source))
    if not problems:
        raise ValueError(f"{key} has no problems: check the source")
    return problems, num_invalid


def _draw(key: str, source: ReasoningGymSource, seed: int) -> list[Problem]:
    import reasoning_gym  # noqa: PLC0415 - takes seconds; the other sources do without it
    from reasoning_gym.factory import DATASETS  # noqa: PLC0415

    if source.dataset not in DATASETS:
        near = difflib.get_close_matches(source.dataset, DATASETS, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{key}.dataset: reasoning-gym has no {source.dataset!r}{hint}")
    known = {field.name for field in dataclasses.fields(DATASETS[source.dataset][1])}
    for name in source.config:
        if name not in known:
            raise ValueError(
                f"{key}.config: {source.dataset} has no setting {name!r}; it has "
                f"{sorted(known - {'seed', 'size'})}"
            )
    try:
        dataset = reasoning_gym.create_dataset(
            source.dataset, seed=seed, size=source.num_draws, **source.config
        )
    except (AssertionError, TypeError, ValueError) as error:  # how reasoning-gym validates
        raise ValueError(f"{key}.config is not valid for {source.dataset}: {error}") from error
    problems = []
    for item in dataset:
        question, answer = _text(item["question"]), _text(item["answer"])
        if not question or not answer:
            raise ValueError(
                f"{key}: {source.dataset} gives no reference answer for {question!r}, so nothing "
                f"can be scored against it: choose another dataset"
            )
        problems.append(Problem(question, answer, answer))
    return problems


def _read_file(key: str, source: JsonlSource) -> list[dict[str, Any]]:
    path = Path(source.path)
    if not path.is_file():
        raise ValueError(f"{key}.path {source.path!r} is not a file")
    actual = sha256_file(path)
    if actual != source.sha256:
        raise ValueError(
            f"{key}.sha256 is {source.sha256}, but {source.path} has {actual}: the file was "
            f"changed or is another one"
        )
    return read_jsonl(path)


def _load_dataset(key: str, source: HubSource) -> Iterable[dict[str, Any]]:
    import datasets  # noqa: PLC0415 - takes seconds; the other sources do without it
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    try:
        rows: Iterable[dict[str, Any]] = datasets.load_dataset(
            source.repo, source.subset, revision=source.revision, split=source.split
        )
    except ConnectionError as error:
        raise ValueError(
            f"{key}: the Hugging Face hub cannot be reached for {source.repo} at "
            f"{source.revision}: check the network and HF_HUB_OFFLINE, or use a source of kind "
            f"jsonl: {error}"
        ) from error
    except (FileNotFoundError, HfHubHTTPError, ValueError) as error:
        raise ValueError(
            f"{key}: {source.repo} at {source.revision} has no subset {source.subset!r} with "
            f"split {source.split!r}: {error}"
        ) from error
    return rows


def _parse(
    key: str, source: JsonlSource | HubSource, rows: Iterable[dict[str, Any]]
) -> tuple[list[Problem], int]:
    """Returns the problems of the valid rows and the number of the other rows."""
    problems, invalid = [], []
    for number, row in enumerate(rows, start=1):
        for field in (source.question_field, source.answer_field):
            if field not in row:
                raise ValueError(
                    f"{key}: row {number} has no field {field!r}; it has {sorted(row)}"
                )
        question, solution = _text(row[source.question_field]), _text(row[source.answer_field])
        answer = solution
        if source.answer_after is not None:
            answer = _after(solution, source.answer_after)
        if question and answer:
            problems.append(Problem(question, answer, solution))
        else:
            invalid.append(number)
    if len(invalid) > source.max_invalid:
        raise ValueError(
            f"{key}: {len(invalid)} rows have no usable question or answer (the first is row "
            f"{invalid[0]}), more than max_invalid = {source.max_invalid}: correct the fields and "
            f"answer_after, or raise max_invalid to drop them"
        )
    return problems, len(invalid)


def _after(text: str, marker: str) -> str:
    """Returns what follows the last `marker` in `text`; '' if it is not there."""
    _, found, tail = text.rpartition(marker)
    return tail.strip() if found else ""


def _text(value: object) -> str:
    """Returns a string or a number as stripped text; '' for anything else (null, lists, ...)."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value).strip()
