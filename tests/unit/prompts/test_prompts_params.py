"""What params.yaml may say about the problems."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stages.prompts.mixture import Mixture
from stages.prompts.params import (
    BoilerplateParams,
    DecontaminationParams,
    HubEvaluation,
    HubSource,
    JsonlEvaluation,
    JsonlSource,
    MinHash,
    PromptsParams,
    ReasoningGymSource,
    count_problems,
)

FIELDS: dict[str, Any] = {
    "question_field": "question",
    "answer_field": "answer",
    "answer_after": None,
    "solution_field": None,
    "columns": [],
}
COUNTS = {"num_train": 2, "num_rl": 1, "num_evaluate": 1}
SETTINGS: dict[str, Any] = {
    "image": "cpu",
    "seed": 0,
    "system_prompt": None,
    "examples": "unused.jsonl",
    "near_duplicates": None,
    "mixture": None,
    "traces": None,
}
DECONTAMINATION = DecontaminationParams(
    ngram=10,
    boilerplate=BoilerplateParams(ngram=5, min_frequency=0.2, num_rows=500),
    against={},
    max_matches=10,
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
    sources = {"some": make(), "none": make(num_train=0, num_rl=0, num_evaluate=0)}
    with pytest.raises(ValueError, match=r"sources\.none: .* are all 0: remove the source"):
        PromptsParams(**SETTINGS, decontamination=DECONTAMINATION, sources=sources)
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
    sources: dict[str, Any] = {"few": gym(num_draws=3)}
    with pytest.raises(ValueError, match=r"few\.num_draws must be at least the 4 problems"):
        PromptsParams(**SETTINGS, decontamination=DECONTAMINATION, sources=sources)


def test_jsonl_is_pinned() -> None:
    with pytest.raises(ValueError, match="sha256 must be 64"):
        jsonl(sha256="")


@pytest.mark.parametrize("name", ["Chain-Sum", "a/b", "../x", "", "_x", "chain sum"])
def test_task_names_are_file_names(name: str) -> None:
    with pytest.raises(ValueError, match="must consist of a-z, 0-9 and _"):
        PromptsParams(**SETTINGS, decontamination=DECONTAMINATION, sources={name: gym()})


@pytest.mark.parametrize(
    "change", [{"ngram": 0}, {"min_frequency": 0.0}, {"min_frequency": 1.5}, {"num_rows": 0}]
)
def test_boilerplate_bounds(change: dict[str, Any]) -> None:
    valid: dict[str, Any] = {"ngram": 5, "min_frequency": 0.2, "num_rows": 500}
    with pytest.raises(ValueError, match=rf"boilerplate\.{next(iter(change))} must be"):
        BoilerplateParams(**(valid | change))


def test_ngram_bound() -> None:
    with pytest.raises(ValueError, match=r"decontamination\.ngram must be >= 1"):
        replace(DECONTAMINATION, ngram=0)
    with pytest.raises(ValueError, match=r"decontamination\.max_matches must be >= 0 rows, not -1"):
        replace(DECONTAMINATION, max_matches=-1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"revision": "main"}, r"^revision must be a commit of 40 hex digits"),
        ({"question_field": ""}, "question_field and solution_field must name a field"),
        ({"solution_field": ""}, "question_field and solution_field must name a field"),
        ({"max_invalid": -1}, r"^max_invalid must be >= 0, not -1"),
    ],
)
def test_evaluation_sets_are_pinned(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "repo": "o/n",
        "subset": None,
        "revision": "a" * 40,
        "split": "test",
        "question_field": "question",
        "solution_field": None,
        "max_invalid": 0,
    }
    assert HubEvaluation(kind="hub", **good).solution_field is None
    with pytest.raises(ValueError, match=message):
        HubEvaluation(kind="hub", **(good | change))


def test_evaluation_sets_have_names_of_their_own() -> None:
    aime = JsonlEvaluation(
        kind="jsonl",
        path="x",
        sha256="0" * 64,
        question_field="problem",
        solution_field=None,
        max_invalid=0,
    )
    with pytest.raises(ValueError, match=r"against: 'AIME' must consist of a-z"):
        replace(DECONTAMINATION, against={"AIME": aime})
    with pytest.raises(ValueError, match=r"against: 'a' is one of prompts\.sources"):
        PromptsParams(
            **SETTINGS,
            decontamination=replace(DECONTAMINATION, against={"a": aime}),
            sources={"a": gym()},
        )


def mixed(weights: dict[str, float], **counts: int) -> PromptsParams:
    mixture = Mixture(kind="weights", weights=weights, **({"num_train": 9, "num_rl": 5} | counts))
    nothing = {"num_train": 0, "num_rl": 0, "num_evaluate": 0}
    sources: dict[str, Any] = {"a": jsonl(**nothing), "b": jsonl(**nothing), "c": jsonl()}
    settings = {**SETTINGS, "mixture": mixture}
    return PromptsParams(**settings, decontamination=DECONTAMINATION, sources=sources)


def test_a_mixture_divides_its_totals() -> None:
    params = mixed({"a": 1.0, "b": 2.5})
    assert count_problems(params, "a") == (3, 1, 0)  # of 2.57 and 1.43
    assert count_problems(params, "b") == (6, 4, 0)
    assert count_problems(params, "c") == (2, 1, 1)  # its own
    assert count_problems(mixed({"b": 0.1, "a": 0.1}), "a") == (5, 3, 0)  # a tie: by name


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1.0, "b": 0.0}, r"mixture\.weights\.b must be > 0, not 0\.0: leave the source out"),
        ({"a": float("inf"), "b": 1.0}, r"mixture\.weights\.a must be > 0, not inf"),
        ({}, r"mixture\.weights must name a source"),
        ({"a": 1.0, "d": 1.0}, r"weights: 'd' is none of prompts\.sources: \['a', 'b', 'c'\]"),
        ({"a": 1.0, "c": 1.0}, r"sources\.c: num_train is 2 and num_rl 1, but .* set both to 0"),
        ({"a": 1.0}, r"sources\.b: num_train, num_rl and num_evaluate are all 0"),
    ],
)
def test_mixture_bounds(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mixed(weights)


def test_what_has_no_answers_is_in_no_mixture_of_train_problems() -> None:
    code = jsonl(answer_field=None, columns=["tests"], num_train=0, num_rl=0, num_evaluate=0)
    settings: dict[str, Any] = {
        "decontamination": DECONTAMINATION,
        "sources": {"a": gym(), "code": code},
    }
    for num_train in (0, 1):
        mixture = Mixture(kind="weights", num_train=num_train, num_rl=2, weights={"code": 1.0})
        if num_train == 0:
            params = PromptsParams(**{**SETTINGS, "mixture": mixture}, **settings)
            assert count_problems(params, "code") == (0, 2, 0)
        else:
            with pytest.raises(ValueError, match=r"weights\.code: the source has no answer_field"):
                PromptsParams(**{**SETTINGS, "mixture": mixture}, **settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0.0}, r"threshold must be in \(0, 1\], not 0\.0"),
        ({"ngram": 0}, r"near_duplicates\.ngram must be >= 1, not 0"),
        ({"num_bands": 0}, r"num_bands must be >= 1, not 0"),
        ({"num_bands": 5}, r"num_bands must divide num_perm = 128, not be 5"),
    ],
)
def test_near_duplicates_bounds(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"threshold": 0.8, "ngram": 3, "num_perm": 128, "num_bands": 32}
    with pytest.raises(ValueError, match=message):
        MinHash(kind="minhash", **(good | change))


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
