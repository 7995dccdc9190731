"""Reads a task's YAML file and the problems it asks, strictly, before any model is loaded.

lm-eval itself takes the last of two equal keys, passes unknown generation options on to the engine,
ignores a temperature without do_sample, and cuts long prompts; each is an error here.
"""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages._contract.artifacts import read_jsonl, sha256_file

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from types import ModuleType

    from stages.evaluate.tasks.scoring import Scorer

Row = dict[str, Any]

_ROOT = Path(__file__).parents[2]
# Modules of stages/evaluate/tasks. The first one alone is among the deps of all cells in dvc.yaml.
SCORERS = ("scoring", "boxed", "gpqa", "bbq", "crows_pairs", "programs", "ifeval")
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
}
_GENERATION = {"do_sample", "temperature", "max_gen_toks", "until"}
_SAMPLING = {"top_p", "top_k", "min_p"}
_FIELDS = ("id", "task", "prompt", "answer")
_METADATA = {"version", "source", "band", "code"}


def read_task(path: Path) -> dict[str, Any]:
    """Returns the task's configuration, with functions as the text after `!function`.

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
    _check_keys(f"{path}", config, _KEYS, {*_KEYS, "process_docs"})
    for key, value in {**_FIXED, "task": path.stem}.items():
        if config[key] != value:
            raise ValueError(f"{path}: {key} must be {value!r}, not {config[key]!r}")
    if "version" not in (config["metadata"] or {}):
        raise ValueError(f"{path}: metadata.version is missing: results carry it")
    _check_scorer(path, config)
    _check_metrics(path, config)
    _check_generation(path, config)
    return config


def load_scorer(config: dict[str, Any]) -> Scorer:
    """Returns what reads and judges the responses to a task that `read_task` has returned."""
    scorer: Scorer = _load_module(config).SCORER
    return scorer


def _load_module(config: dict[str, Any]) -> ModuleType:
    """Imports the scorer's module, which may be slow to import or need what others do not."""
    return importlib.import_module(
        f"stages.evaluate.tasks.{config['process_results'].partition('.')[0]}"
    )


def _check_scorer(path: Path, config: dict[str, Any]) -> None:
    """Checks the scorer, and that its code is the one that the file says.

    The file is a dep of the task's cells, and most scorers' code is not: their digests are in it.
    So a change of that code is a change of the tasks that it scores, and of no others.
    """
    name = str(config["process_results"])
    if name not in {f"{module}.process_results" for module in SCORERS}:
        raise ValueError(
            f"{path}: process_results must be one of {', '.join(SCORERS)}, each with "
            f"'.process_results', not {name!r}"
        )
    if name != "scoring.process_results":
        _check_keys(f"{path}: metadata", config["metadata"], _METADATA, _METADATA)
        for file, pinned in config["metadata"]["code"].items():
            actual = sha256_file(_ROOT / file) if (_ROOT / file).is_file() else "no such file"
            if actual != pinned:
                raise ValueError(
                    f"{path}: metadata.code.{file} is {pinned}, but it is {actual}: what scores "
                    f"was changed; write the new sha256 there, and the task is evaluated again"
                )
    expected = getattr(_load_module(config), "process_docs", None)
    docs = name.replace("process_results", "process_docs") if expected else None
    if config.get("process_docs") != docs:
        raise ValueError(
            f"{path}: process_docs must be {docs!r} with {name!r}, not "
            f"{config.get('process_docs')!r}"
        )


def _check_metrics(path: Path, config: dict[str, Any]) -> None:
    """Checks that lm-eval averages what the scorer returns: it fails after all else is done."""
    metrics = [
        {"metric": name, "aggregation": "mean", "higher_is_better": True}
        for name in load_scorer(config).metrics
    ]
    if config["metric_list"] != metrics:
        raise ValueError(
            f"{path}: metric_list must be {metrics}, not {config['metric_list']}: this is what "
            f"{config['process_results']} returns"
        )


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
    if not isinstance(options, dict):
        raise ValueError(  # noqa: TRY004 - a mistake in the file, as the others
            f"{where} must be a mapping, not {options!r}: it needs {', '.join(sorted(_GENERATION))}"
        )
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


def read_problems(path: Path, scorer: Scorer) -> list[Row]:
    """Returns the problems in the file's order.

    Raises:
        ValueError: the file is empty, a row has other fields than id, task, prompt, answer and the
            scorer's columns, an id repeats, a prompt is not [system,] user, or nothing can be
            scored against what the row says is right.
    """
    rows = read_jsonl(path)
    seen: set[str] = set()
    fields = (*_FIELDS, *scorer.columns)
    for number, row in enumerate(rows, start=1):
        where = f"{path}:{number}"
        _check_keys(where, row, fields, fields)
        for key in ("id", "task", "answer")[: 3 if scorer.has_reference else 2]:
            if not isinstance(row[key], str):
                raise ValueError(f"{where}: {key} must be text, not {row[key]!r}")  # noqa: TRY004
        if row["id"] in seen:
            raise ValueError(f"{where}: the id {row['id']!r} occurs twice")
        seen.add(row["id"])
        roles = [message["role"] for message in row["prompt"]]
        if roles not in (["system", "user"], ["user"]):
            raise ValueError(f"{where}: prompt must be [system,] user, not {roles}")
        try:
            scorer.prepare(row)
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
