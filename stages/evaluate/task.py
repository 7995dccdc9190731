"""Reads a task's YAML file and the problems it asks, strictly, before any model is loaded.

lm-eval itself takes the last of two equal keys, passes unknown generation options on to the engine,
ignores a temperature without do_sample, and cuts long prompts; each is an error here.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages._contract.artifacts import read_jsonl
from stages.filter.verify import is_equal

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

Row = dict[str, Any]

_KEYS = {
    "task",
    "dataset_path",
    "test_split",
    "num_fewshot",
    "output_type",
    "doc_to_text",
    "doc_to_target",
    "generation_kwargs",
    "repeats",
    "filter_list",
    "process_results",
    "metric_list",
    "metadata",
}
# What the stage relies on: other values would be ignored or would measure something else.
_FIXED: dict[str, Any] = {
    "dataset_path": "json",
    "test_split": "test",
    "num_fewshot": 0,
    "output_type": "generate_until",
    "process_results": "scoring.process_results",
}
_GENERATION = {"do_sample", "temperature", "max_gen_toks", "until"}
_SAMPLING = {"top_p", "top_k", "min_p"}
_FIELDS = {"id", "task", "prompt", "answer"}


def read_task(path: Path) -> dict[str, Any]:
    """Returns the task's configuration, with `process_results` as the text after `!function`.

    Raises:
        ValueError: not YAML, an unknown or missing key, or values that contradict each other.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.constructor.add_constructor("!function", lambda _, node: node.value)
    try:
        config = yaml.load(path)
    except YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} must be a mapping of an lm-eval task's keys")  # noqa: TRY004
    _check_keys(f"{path}", config, _KEYS, _KEYS)
    for key, value in {**_FIXED, "task": path.stem}.items():
        if config[key] != value:
            raise ValueError(f"{path}: {key} must be {value!r}, not {config[key]!r}")
    if "version" not in (config["metadata"] or {}):
        raise ValueError(f"{path}: metadata.version is missing: results carry it")
    _check_generation(path, config)
    return config


def _check_keys(
    where: str, found: Mapping[str, Any], required: Collection[str], allowed: Collection[str]
) -> None:
    for key in found:
        if key not in allowed:
            near = get_close_matches(str(key), allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(allowed))}"
            raise ValueError(f"{where}: unknown key {key!r}: {hint}")
    for key in sorted(required):
        if key not in found:
            raise ValueError(f"{where}: {key} is missing")


def _check_generation(path: Path, config: dict[str, Any]) -> None:
    options, repeats = config["generation_kwargs"], config["repeats"]
    where = f"{path}: generation_kwargs"
    sampled = options.get("do_sample")
    allowed = _GENERATION | _SAMPLING if sampled else _GENERATION
    _check_keys(where, options, _GENERATION, allowed)
    if sampled != (options["temperature"] > 0):
        raise ValueError(
            f"{where}: do_sample is {sampled} but temperature is {options['temperature']}: greedy "
            f"is false and 0, sampling is true and above 0"
        )
    if options["max_gen_toks"] < 1:
        raise ValueError(f"{where}.max_gen_toks must be >= 1, not {options['max_gen_toks']}")
    if options["until"]:
        raise ValueError(
            f"{where}.until must be [], not {options['until']}: a stop string is cut off, and what "
            f"follows an answer would not be seen by the format check"
        )
    if repeats < 1 or (repeats > 1 and not sampled):
        raise ValueError(
            f"{path}: repeats is {repeats} with do_sample {sampled}: must be >= 1, and 1 for "
            f"greedy decoding, where all samples would be the same"
        )
    filters = [{"name": "all", "filter": [{"function": "take_first_k", "k": repeats}]}]
    if config["filter_list"] != filters:
        raise ValueError(
            f"{path}: filter_list must be {filters}, not {config['filter_list']}: all {repeats} "
            f"samples of a problem are scored"
        )


def read_problems(path: Path) -> list[Row]:
    """Returns the problems in the file's order.

    Raises:
        ValueError: the file is empty, a row has other fields than id, task, prompt and answer, an
            id repeats, a prompt is not [system,] user, or a gold answer cannot be parsed.
    """
    rows = read_jsonl(path)
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        where = f"{path}:{number}"
        _check_keys(where, row, _FIELDS, _FIELDS)
        for key in ("id", "task", "answer"):
            if not isinstance(row[key], str):
                raise ValueError(f"{where}: {key} must be text, not {row[key]!r}")  # noqa: TRY004
        if row["id"] in seen:
            raise ValueError(f"{where}: the id {row['id']!r} occurs twice")
        seen.add(row["id"])
        roles = [message["role"] for message in row["prompt"]]
        if roles not in (["system", "user"], ["user"]):
            raise ValueError(f"{where}: prompt must be [system,] user, not {roles}")
        try:
            is_equal(row["answer"], row["answer"])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    return rows


def system_prompt(rows: Sequence[Row]) -> str | None:
    """Returns the system prompt that all problems share, or None if they have none.

    Raises:
        ValueError: the problems differ in it; lm-eval takes one for the whole task.
    """
    first = _system(rows[0])
    for row in rows:
        if _system(row) != first:
            raise ValueError(
                f"the system prompts of {rows[0]['id']} and {row['id']} differ ({first!r}, "
                f"{_system(row)!r}), but a task has one: make them equal"
            )
    return first


def _system(row: Row) -> str | None:
    message = row["prompt"][0]
    return str(message["content"]) if message["role"] == "system" else None
