"""Reading the sources: every row becomes a `Problem`."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import iterate_jsonl, sha256_file
from stages._contract.seeding import derive
from stages.prompts.params import (
    GYM_COLUMN,
    HubSource,
    JsonlEvaluation,
    JsonlSource,
    ReasoningGymSource,
    question_fields,
)

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator

    from stages.prompts.params import HubEvaluation, Source


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One problem as its source gives it.

    `solution` is the reference solution where the source has one, else what the answer is in: what
    is compared, beside the question, when leaks are looked for. `columns` is a JSON object of what
    rewards need besides, by name: texts or null. One text, so that problems have an order even
    where a column is null.
    """

    question: str
    answer: str
    solution: str
    columns: str = "{}"


def read_source(task: str, source: Source, seed: int, counts: Counter[str]) -> Iterator[Problem]:
    """Yields the source's problems, repeats included, and counts the `invalid` rows dropped.

    Raises:
        ValueError: the source cannot be had, is not what its pin says, is empty, or has more
            invalid rows than `max_invalid`; names prompts.sources.<task>.
    """
    key = f"prompts.sources.{task}"
    counts["invalid"] = 0
    match source:
        case ReasoningGymSource():
            problems = _draw(key, source, derive(seed, "prompts", task))
        case JsonlSource() | HubSource():
            problems = _parse(key, source, _read_rows(key, source), counts)
    is_empty = True
    for problem in problems:
        is_empty = False
        yield problem
    if is_empty:
        raise ValueError(f"{key} has no problems: check the source")


def read_evaluation(
    name: str, source: JsonlEvaluation | HubEvaluation
) -> Iterator[tuple[str, Problem]]:
    """Yields an evaluation set's problems under the ids <name>-<row>; rows count from 1.

    Raises:
        ValueError: as for `read_source`; names prompts.decontamination.against.<name>.
    """
    key = f"prompts.decontamination.against.{name}"
    invalid = []
    number = 0
    for number, row in enumerate(_read_rows(key, source), start=1):
        for field in (source.question_field, source.solution_field):
            if field is not None and field not in row:
                raise ValueError(_unnamed(key, number, field, row))
        question = read_text(row[source.question_field])
        solution = "" if source.solution_field is None else read_text(row[source.solution_field])
        if question:
            yield f"{name}-{number}", Problem(question, "", solution)
        else:
            invalid.append(number)
    if number == len(invalid):
        raise ValueError(f"{key} has no problems: check the source")
    if len(invalid) > source.max_invalid:
        raise ValueError(
            f"{key}: {len(invalid)} rows have no question (the first is row {invalid[0]}), more "
            f"than max_invalid = {source.max_invalid}: correct question_field, or raise max_invalid"
        )


def _read_rows(
    key: str, source: JsonlSource | HubSource | JsonlEvaluation | HubEvaluation
) -> Iterable[dict[str, Any]]:
    if isinstance(source, JsonlSource | JsonlEvaluation):
        return iterate_jsonl(check_file(key, Path(source.path), source.sha256))
    return load_dataset(
        key, source.repo, source.subset, revision=source.revision, split=source.split
    )


def _draw(key: str, source: ReasoningGymSource, seed: int) -> Iterator[Problem]:
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
    for item in dataset:
        question, answer = read_text(item["question"]), read_text(item["answer"])
        if not question or not answer:
            raise ValueError(
                f"{key}: {source.dataset} gives no reference answer for {question!r}, so nothing "
                f"can be scored against it: choose another dataset"
            )
        columns = {}
        if source.columns:
            columns[GYM_COLUMN] = _describe_item(key, source, dataset, item)
        yield Problem(question, answer, answer, _dump(columns))


def _describe_item(key: str, source: ReasoningGymSource, dataset: Any, item: dict[str, Any]) -> str:
    """Returns, as JSON, what reasoning-gym's scorer needs to know of an item.

    JSON knows neither tuples nor keys that are numbers, which some scorers rely on.

    Raises:
        ValueError: the item as read from JSON is not scored as the item itself; names `key`.
    """
    entry = {name: item[name] for name in ("question", "answer", "metadata")}
    try:
        text = _dump({"config": source.config, "dataset": source.dataset, "entry": entry})
        read = json.loads(text)["entry"]
        scores = [dataset.score_answer(item["answer"], either) for either in (item, read)]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(_unscorable(key, source.dataset, str(error))) from error
    if scores[0] != scores[1]:
        detail = f"its reference answer scores {scores[1]} instead of {scores[0]} then"
        raise ValueError(_unscorable(key, source.dataset, detail))
    return text


def _unscorable(key: str, dataset: str, detail: str) -> str:
    return (
        f"{key}.columns: items of {dataset} do not survive being written as JSON ({detail}): "
        f"choose another dataset, or set columns to []"
    )


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)


def check_file(key: str, path: Path, sha256: str) -> Path:
    """Returns the path of a file that is what its pin says.

    Raises:
        ValueError: it is not there or is another one; names `key`.
    """
    if not path.is_file():
        raise ValueError(f"{key}.path {str(path)!r} is not a file")
    actual = sha256_file(path)
    if actual != sha256:
        raise ValueError(
            f"{key}.sha256 is {sha256}, but {path} has {actual}: the file was changed or is "
            f"another one"
        )
    return path


def load_dataset(
    key: str, repo: str, subset: str | None, *, revision: str, split: str
) -> Iterable[dict[str, Any]]:
    """Returns the rows of a dataset of the hub, which can be iterated over again.

    Raises:
        ValueError: the hub cannot be reached or has no such dataset; names `key`.
    """
    import datasets  # noqa: PLC0415 - takes seconds; the other sources do without it
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    try:
        rows: Iterable[dict[str, Any]] = datasets.load_dataset(
            repo, subset, revision=revision, split=split
        )
    except ConnectionError as error:
        raise ValueError(
            f"{key}: the Hugging Face hub cannot be reached for {repo} at {revision}: check the "
            f"network and HF_HUB_OFFLINE, or use a source of kind jsonl: {error}"
        ) from error
    except (FileNotFoundError, HfHubHTTPError, ValueError) as error:
        raise ValueError(
            f"{key}: {repo} at {revision} has no subset {subset!r} with split {split!r}: {error}"
        ) from error
    return rows


def _parse(
    key: str,
    source: JsonlSource | HubSource,
    rows: Iterable[dict[str, Any]],
    counts: Counter[str],
) -> Iterator[Problem]:
    """Yields the problems of the valid rows, and counts the other rows."""
    first = 0
    for number, row in enumerate(rows, start=1):
        _require_named(key, source, number, row)
        question = "\n\n".join(read_text(row[field]) for field in question_fields(source)).strip()
        given = "" if source.answer_field is None else read_text(row[source.answer_field])
        answer = given
        if source.answer_after is not None:
            answer = _after(given, source.answer_after)
        solution = given
        if source.solution_field is not None:
            solution = read_text(row[source.solution_field]) or given
        if question and (answer or source.answer_field is None):
            columns = {name: _column(key, number, name, row[name]) for name in source.columns}
            yield Problem(question, answer, solution, _dump(columns))
        else:
            first = first or number
            counts["invalid"] += 1
    if counts["invalid"] > source.max_invalid:
        raise ValueError(
            f"{key}: {counts['invalid']} rows have no usable question or answer (the first is row "
            f"{first}), more than max_invalid = {source.max_invalid}: correct the fields and "
            f"answer_after, or raise max_invalid to drop them"
        )


def _require_named(
    key: str, source: JsonlSource | HubSource, number: int, row: dict[str, Any]
) -> None:
    for field in (*question_fields(source), source.answer_field, source.solution_field):
        if field is not None and field not in row:
            raise ValueError(_unnamed(key, number, field, row))
    for name in source.columns:
        if name not in row:
            raise ValueError(_unnamed(f"{key}.columns", number, name, row))


def _unnamed(key: str, number: int, field: str, row: dict[str, Any]) -> str:
    return f"{key}: row {number} has no field {field!r}; it has {sorted(row)}"


def _column(key: str, number: int, name: str, value: Any) -> str | None:
    """Returns a text or null as it is, and anything else as JSON: a column has one type."""
    if value is None or isinstance(value, str):
        return value
    try:
        return _dump(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{key}.columns: {name!r} of row {number} cannot be written as JSON ({error}): leave "
            f"it out, or use a source of kind jsonl"
        ) from error


def _after(text: str, marker: str) -> str:
    """Returns what follows the last `marker` in `text`; '' if it is not there."""
    _, found, tail = text.rpartition(marker)
    return tail.strip() if found else ""


def read_text(value: object) -> str:
    """Returns a string or a number as stripped text; '' for anything else (null, lists, ...).

    Half of a surrogate pair, which JSON can hold, is no text either: it cannot be written as UTF-8.
    Neither are NaN and infinity.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    text = str(value).strip()
    try:
        text.encode()
    except UnicodeEncodeError:
        return ""
    return text
