"""What params.yaml may say about the problems."""

from __future__ import annotations

from typing import Any

import pytest

from stages.prompts.params import (
    BoilerplateParams,
    DecontaminationParams,
    HubSource,
    JsonlSource,
    PromptsParams,
    ReasoningGymSource,
)

FIELDS: dict[str, Any] = {
    "question_field": "question",
    "answer_field": "answer",
    "answer_after": None,
    "columns": [],
}
COUNTS = {"num_train": 2, "num_rl": 1, "num_evaluate": 1}
SETTINGS: dict[str, Any] = {
    "image": "cpu",
    "seed": 0,
    "system_prompt": None,
    "examples": "unused.jsonl",
    "traces": None,
}
DECONTAMINATION = DecontaminationParams(
    ngram=10, boilerplate=BoilerplateParams(ngram=5, min_frequency=0.2, num_rows=500)
)


def gym(**changes: Any) -> ReasoningGymSource:
    settings: dict[str, Any] = {"dataset": "chain_sum", "config": {}, "columns": []}
    return ReasoningGymSource(
        kind="reasoning-gym", **(settings | {"num_draws": 10, **COUNTS} | changes)
    )


def jsonl(**changes: Any) -> JsonlSource:
    settings = {"path": "x.jsonl", "sha256": "0" * 64, "max_invalid": 0, **FIELDS, **COUNTS}
    return JsonlSource(kind="jsonl", **(settings | changes))


def hub(**changes: Any) -> HubSource:
    settings: dict[str, Any] = {
        "repo": "o/n",
        "subset": None,
        "revision": "a" * 40,
        "split": "train",
    }
    return HubSource(kind="hub", **(settings | {"max_invalid": 0, **FIELDS, **COUNTS} | changes))


@pytest.mark.parametrize("revision", ["main", "v1", "abcdef1", "A" * 40])
def test_hub_takes_nothing_but_a_full_commit(revision: str) -> None:
    with pytest.raises(ValueError, match="revision must be a commit of 40 hex digits"):
        hub(revision=revision)


@pytest.mark.parametrize("make", [gym, jsonl, hub])
def test_counts(make: Any) -> None:
    with pytest.raises(ValueError, match="num_rl must be >= 0, not -1"):
        make(num_rl=-1)
    with pytest.raises(ValueError, match="are all 0: remove the source"):
        make(num_train=0, num_rl=0, num_evaluate=0)
    assert make(num_train=0, num_rl=0).num_evaluate == 1  # a transfer task


@pytest.mark.parametrize("make", [jsonl, hub])
def test_fields(make: Any) -> None:
    with pytest.raises(ValueError, match="must name a field"):
        make(question_field="")
    assert make(question_field=["context", "question"]).num_rl == 1
    for fields in ([], ["context", ""]):
        with pytest.raises(ValueError, match="must name a field"):
            make(question_field=fields)
    with pytest.raises(ValueError, match="answer_after must be a marker"):
        make(answer_after="")
    with pytest.raises(ValueError, match="max_invalid must be >= 0"):
        make(max_invalid=-1)


@pytest.mark.parametrize("make", [jsonl, hub])
def test_problems_without_an_answer_need_columns_to_be_judged_by(make: Any) -> None:
    rl_only = {"answer_field": None, "columns": ["tests"], "num_train": 0, "num_evaluate": 0}
    assert make(**rl_only).num_rl == 1
    assert make(**(rl_only | {"num_evaluate": 3})).num_evaluate == 3
    with pytest.raises(ValueError, match="no reward could tell right from wrong"):
        make(**(rl_only | {"columns": []}))
    assert make(**(rl_only | {"num_train": 2})).num_train == 2, "filter says which it takes"
    with pytest.raises(ValueError, match=r"answer_after is '####', but answer_field is null"):
        make(**(rl_only | {"answer_after": "####"}))
    with pytest.raises(ValueError, match="must name a field"):
        make(answer_field="")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["tests", "answer"], "'answer' is taken by"),
        (["prompts"], "'prompts' is taken by"),
        (["trainer_state"], "'trainer_state' is taken by"),
        (["time-limit"], "'time-limit' must be a name"),
        ([""], "'' must be a name"),
        (["tests", "tests"], "'tests' must be a name that .* given once"),
    ],
)
@pytest.mark.parametrize("make", [jsonl, hub])
def test_columns_are_names_that_nothing_else_has(
    make: Any, columns: list[str], message: str
) -> None:
    sources = {"code": make(columns=columns)}
    with pytest.raises(ValueError, match=rf"prompts\.sources\.code\.columns: {message}"):
        PromptsParams(**SETTINGS, decontamination=DECONTAMINATION, sources=sources)


def test_gym_has_one_column_to_give() -> None:
    assert gym(columns=["reasoning_gym"]).columns == ["reasoning_gym"]
    with pytest.raises(
        ValueError, match=r"must be \[\] or \[reasoning_gym\] .* not \['metadata'\]"
    ):
        gym(columns=["metadata"])


def test_gym_settings_of_the_stage_are_not_the_users() -> None:
    with pytest.raises(ValueError, match=r"config\.seed is set by the stage"):
        gym(config={"seed": 1})
    with pytest.raises(ValueError, match="num_draws must be at least the 4 problems"):
        gym(num_draws=3)


def test_jsonl_is_pinned() -> None:
    with pytest.raises(ValueError, match="sha256 must be 64"):
        jsonl(sha256="")


@pytest.mark.parametrize("name", ["Chain-Sum", "a/b", "../x", "", "_x", "chain sum"])
def test_task_names_are_file_names(name: str) -> None:
    with pytest.raises(ValueError, match="must consist of a-z, 0-9 and _"):
        PromptsParams(**SETTINGS, decontamination=DECONTAMINATION, sources={name: gym()})


@pytest.mark.parametrize("key", ["num_train", "num_rl", "num_evaluate"])
def test_every_later_stage_has_problems(key: str) -> None:
    with pytest.raises(ValueError, match=f"{key} is 0 in every source"):
        PromptsParams(**SETTINGS, decontamination=DECONTAMINATION, sources={"a": gym(**{key: 0})})


@pytest.mark.parametrize(
    "change", [{"ngram": 0}, {"min_frequency": 0.0}, {"min_frequency": 1.5}, {"num_rows": 0}]
)
def test_boilerplate_bounds(change: dict[str, Any]) -> None:
    valid: dict[str, Any] = {"ngram": 5, "min_frequency": 0.2, "num_rows": 500}
    with pytest.raises(ValueError, match=rf"boilerplate\.{next(iter(change))} must be"):
        BoilerplateParams(**(valid | change))


def test_ngram_bound() -> None:
    with pytest.raises(ValueError, match=r"decontamination\.ngram must be >= 1"):
        DecontaminationParams(ngram=0, boilerplate=DECONTAMINATION.boilerplate)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"system_prompt": " "}, "prompts.system_prompt must have a text, or be null"),
        ({"examples": ""}, "prompts.examples must name a file"),
    ],
)
def test_system_prompt_and_examples_are_not_empty(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PromptsParams(**(SETTINGS | change), decontamination=DECONTAMINATION, sources={"a": gym()})
