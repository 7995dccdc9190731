"""Names: params.yaml's, Open-R1's, TRL's; and what is refused before a run begins."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages._contract.params import load
from stages.grpo import rewards, stage
from stages.grpo.params import REWARDS, GrpoParams
from stages.grpo.rewards import sandbox, verifier
from stages.grpo.rewards.limit import find_columns

PARAMS: GrpoParams = load(Path(__file__).parents[3] / "params.yaml", "grpo")
# Open-R1's registry, src/open_r1/rewards.py.
OPEN_R1 = {
    "accuracy",
    "binary_code",
    "cf_code",
    "code",
    "code_format",
    "cosine",
    "format",
    "ioi_code",
    "length",
    "reasoning_steps",
    "repetition_penalty",
    "soft_overlong_punishment",
    "tag_count",
}
# Its GRPOScriptArguments, but for cosine_min_value_wrong, whose 0.0 is out of order.
OPEN_R1_ARGS: dict[str, Any] = {
    "cosine_min_value_wrong": -1.0,
    "cosine_max_value_wrong": -0.5,
    "cosine_min_value_correct": 0.5,
    "cosine_max_value_correct": 1.0,
    "cosine_max_len": 1000,
    "repetition_n_grams": 3,
    "repetition_max_penalty": -1.0,
    "code_language": "python",
    "code_eval_test_batch_size": 1,
    "code_eval_scoring_mode": "weighted_sum",
    "parallel_code_exec_per_proc": 2,
    "max_completion_len": 16384,
    "soft_punish_cache": 4096,
}
ROWS = [
    {"id": "a", "answer": "3", "solution": None, "verification_info": None},
    {"id": "b", "answer": None, "solution": "$3$", "verification_info": None},
]
INFO = json.dumps({"language": "python", "test_cases": []})


def change(names: dict[str, float], **args: Any) -> GrpoParams:
    return replace(PARAMS, rewards=names, reward_args=replace(PARAMS.reward_args, **args))


def score(reward: Any, texts: list[str], **columns: list[Any]) -> Any:
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    ids = [list(range(len(text))) for text in texts]
    prompts = [[{"role": "user", "content": "1 + 2"}]] * len(texts)
    logged: dict[str, float] = {}
    scores = reward(
        completions=completions,
        completion_ids=ids,
        prompts=prompts,
        log_metric=logged.__setitem__,
        log_extra=None,
        trainer_state=None,
        **columns,
    )
    return scores, logged


def test_params_know_all_names_and_no_others() -> None:
    functions = rewards.get_reward_funcs(SimpleNamespace(reward_funcs=REWARDS, **OPEN_R1_ARGS))
    assert len(functions) == len(REWARDS) == len(set(REWARDS))
    with pytest.raises(ValueError, match="there is no reward 'acuracy'; there are ") as caught:
        rewards.get_reward_funcs(SimpleNamespace(reward_funcs=["acuracy"]))
    assert str(caught.value).rpartition("there are ")[2].split(", ") == list(REWARDS)


def test_open_r1s_names_and_arguments_will_do() -> None:
    assert set(REWARDS) > OPEN_R1
    names = sorted(OPEN_R1)
    functions = rewards.get_reward_funcs(SimpleNamespace(reward_funcs=names, **OPEN_R1_ARGS))
    columns = {name: find_columns(f) for name, f in zip(names, functions, strict=True)}
    assert {name: found for name, found in columns.items() if found} == {
        "accuracy": ["solution"],
        "binary_code": ["verification_info"],
        "cf_code": ["official_tests", "language"],
        "code": ["verification_info"],
        "cosine": ["solution"],
        "ioi_code": ["test_cases"],
        "length": ["solution"],
    }


def test_page_has_all_rewards_and_the_columns_that_they_need() -> None:
    page = (Path(stage.__file__).parent / "README.md").read_text(encoding="utf-8")
    _, rows = page.split("| name in `grpo.rewards` |")
    table = dict(re.findall(r"(?m)^\| `(\w+)` \| (.*?) \|", rows.partition("\n\n")[0]))
    assert sorted(table) == sorted(REWARDS)
    functions = rewards.get_reward_funcs(SimpleNamespace(reward_funcs=REWARDS, **OPEN_R1_ARGS))
    needed = {name: find_columns(f) for name, f in zip(REWARDS, functions, strict=True)}
    shown = {name: re.findall(r"`(\w+)`(?!, if there)", text) for name, text in table.items()}
    assert shown == needed


def test_arguments_reach_their_rewards() -> None:
    args = SimpleNamespace(
        reward_funcs=["cosine", "repetition_penalty", "soft_overlong_punishment", "code"],
        **asdict(replace(PARAMS.reward_args, cosine_max_len=2, cosine_min_value_correct=0.25)),
    )
    args.repetition_n_grams, args.repetition_max_penalty = 1, -2.0
    args.max_completion_len, args.soft_punish_cache = 4, 2
    args.code_cpu_s, args.code_memory_bytes, args.parallel_code_exec_per_proc = 1.5, 2**28, 3
    cosine, repetition, overlong, code = rewards.get_reward_funcs(args)
    assert score(cosine, [r"\boxed{3}"], solution=["$3$"])[0] == [0.25]
    assert score(repetition, ["a a a a"])[0] == [-1.5]
    assert score(overlong, ["a", "abc", "abcd", "abcdef"])[0] == [0.0, -0.5, -1.0, -1.0]
    assert code.keywords == {  # type: ignore[attr-defined]
        "limits": sandbox.Limits(cpu_s=1.5, wall_s=25.0, memory_bytes=2**28),
        "num_parallel": 3,
    }


def test_rewards_are_ordered_by_name_and_named_as_their_weights() -> None:
    params = change({"format": 0.0, "answer_accuracy": 1.0}, verify_cpu_s=0.75)
    functions = stage.choose_rewards(params, ROWS)
    assert [function.__name__ for function in functions] == ["answer_accuracy", "format"]
    assert stage.to_trl(params, Path("work"))["reward_weights"] == [1.0, 0.0]
    assert verifier._settings.timeout_s == 0.75
    assert stage.name_columns(params).keys() - stage.COLUMNS.keys() == {
        "answer_accuracy",
        "unscorable/answer_accuracy",
        "format",
        "unscorable/format",
        "kl",
    }
    assert "kl" not in stage.name_columns(replace(params, beta=0.0))


def test_default_rewards_of_completions() -> None:
    texts = {
        "<think>1 + 2 = 3</think><answer>3</answer>": (1.0, 1.0),
        "<think>1 + 2 = 4</think><answer>4</answer>": (0.0, 1.0),
        "3": (0.0, 0.0),
        "<think>1</think><answer>3</answer> and more": (0.0, 0.0),
        "<think>1</think><answer>1 + 2</answer>": (0.0, 1.0),
    }
    accuracy, format_ = stage.choose_rewards(PARAMS, ROWS)
    columns = {"answer": ["3"] * len(texts), "id": ["p"] * len(texts)}
    assert score(accuracy, list(texts), **columns) == (
        [pair[0] for pair in texts.values()],
        {"unscorable/answer_accuracy": 0.0},
    )
    assert score(format_, list(texts), **columns)[0] == [pair[1] for pair in texts.values()]
    with pytest.raises(ValueError, match="cannot be parsed"):
        score(accuracy, ["<think></think><answer>3</answer>"], answer=["what?"])


def test_each_reward_scores_its_own_kind_of_problem() -> None:
    answer, latex = stage.choose_rewards(change({"answer_accuracy": 1.0, "accuracy": 1.0}), ROWS)[
        ::-1
    ]
    texts = ["<think>1</think><answer>3</answer>", r"<think>1</think>\boxed{3}"]
    columns = {"answer": ["3", None], "solution": [None, "$3$"]}
    assert score(answer, texts, **columns) == ([1.0, None], {"unscorable/answer_accuracy": 0.0})
    assert score(latex, texts, **columns) == ([None, 1.0], {"unscorable/accuracy": 0.0})


def test_reward_without_its_column_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"grpo\.rewards\.code needs verification_info in the rows"
    ):
        stage.choose_rewards(change({"code": 1.0}), ROWS)


@pytest.mark.parametrize(
    ("names", "row", "asked"),
    [
        (["code"], {"verification_info": INFO}, {"python"}),
        (["binary_code"], {"verification_info": json.loads(INFO)}, {"python"}),
        (["cf_code"], {"language": "cpp", "generated_checker": "print(1)"}, {"cpp", "python"}),
        (["ioi_code"], {"test_cases": []}, {"cpp"}),
        (["accuracy", "code_format"], {"language": "cpp"}, set()),
    ],
)
def test_sandbox_is_tried_for_the_languages_of_the_rows(
    monkeypatch: pytest.MonkeyPatch, names: list[str], row: dict[str, Any], asked: set[str]
) -> None:
    found: set[str] = set()
    monkeypatch.setattr(rewards, "check_sandbox", found.add)
    rewards.check_sandbox_of(names, [row, {"id": "b"}])
    assert found == asked


def test_missing_sandbox_stops_the_run_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_BIN", "/nowhere")
    with pytest.raises(ValueError, match="python need /nowhere/bwrap, which is not there"):
        stage.choose_rewards(change({"code": 1.0}), [{"verification_info": INFO}])
