"""Verifiable rewards: all of Open-R1's, by its names, and some that it lacks.

A reward takes TRL's completions (strings, or one list of messages each) and columns of the data
set, and returns a float per completion, or None where it has no verdict. Any of them can be given
to TRL's `GRPOTrainer(reward_funcs=...)`. The stage's README.md has a table of them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from stages.grpo.rewards.accuracy import (
    accuracy_reward,
    answer_accuracy,
    answer_format,
    flexible_accuracy,
)
from stages.grpo.rewards.code import binary_code_reward, code_reward, read_json
from stages.grpo.rewards.contest import cf_code_reward, ioi_code_reward
from stages.grpo.rewards.length import (
    get_cosine_scaled_reward,
    get_soft_overlong_punishment,
    len_reward,
)
from stages.grpo.rewards.procedural import reasoning_gym_reward
from stages.grpo.rewards.sandbox import DEFAULT_LIMITS, NUM_PARALLEL, Limits, check_sandbox
from stages.grpo.rewards.text import (
    format_reward,
    get_code_format_reward,
    get_language_consistency_reward,
    get_repetition_penalty_reward,
    reasoning_steps_reward,
    tag_count_reward,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stages.grpo.rewards.completions import Reward

# Raised with every change that gives some completion another reward; CHANGELOG.md has the values.
VERSION = 2
# Those that run programs.
PROGRAMS = frozenset({"binary_code", "cf_code", "code", "ioi_code"})


def get_reward_funcs(args: Any) -> list[Reward]:
    """Returns the rewards of `args.reward_funcs`, in that order, as Open-R1's function does.

    Args:
        args: Open-R1's `GRPOScriptArguments`, or anything with the attributes that the chosen
            rewards are parametrised with. Those that Open-R1 lacks may be missing.

    Raises:
        ValueError: a name is unknown, or an argument out of its bounds.
    """
    rewards: dict[str, Callable[[], Reward]] = {
        "accuracy": lambda: accuracy_reward,
        "answer_accuracy": lambda: answer_accuracy,
        "answer_format": lambda: answer_format,
        "binary_code": lambda: partial(binary_code_reward, **_limit_programs(args)),
        "cf_code": lambda: partial(
            cf_code_reward, scoring_mode=args.code_eval_scoring_mode, **_limit_programs(args)
        ),
        "code": lambda: partial(code_reward, **_limit_programs(args)),
        "code_format": lambda: get_code_format_reward(args.code_language),
        "cosine": lambda: get_cosine_scaled_reward(
            min_value_wrong=args.cosine_min_value_wrong,
            max_value_wrong=args.cosine_max_value_wrong,
            min_value_correct=args.cosine_min_value_correct,
            max_value_correct=args.cosine_max_value_correct,
            max_len=args.cosine_max_len,
        ),
        "flexible_accuracy": lambda: flexible_accuracy,
        "format": lambda: format_reward,
        "ioi_code": lambda: partial(ioi_code_reward, **_limit_programs(args)),
        "language_consistency": lambda: get_language_consistency_reward(
            getattr(args, "target_language", "en")
        ),
        "length": lambda: len_reward,
        "reasoning_gym": lambda: reasoning_gym_reward,
        "reasoning_steps": lambda: reasoning_steps_reward,
        "repetition_penalty": lambda: get_repetition_penalty_reward(
            ngram_size=args.repetition_n_grams,
            max_penalty=args.repetition_max_penalty,
            language=getattr(args, "repetition_language", "en"),
        ),
        "soft_overlong_punishment": lambda: get_soft_overlong_punishment(
            max_completion_len=args.max_completion_len, soft_punish_cache=args.soft_punish_cache
        ),
        "tag_count": lambda: tag_count_reward,
    }
    unknown = [name for name in args.reward_funcs if name not in rewards]
    if unknown:
        raise ValueError(f"there is no reward {unknown[0]!r}; there are {', '.join(rewards)}")
    return [rewards[name]() for name in args.reward_funcs]


def check_sandbox_of(names: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Checks that what the rewards will run for these rows can be run here.

    Raises:
        ValueError: it cannot; the message says what to do.
    """
    chosen = PROGRAMS & set(names)
    languages: set[str | None] = {"cpp"} if "ioi_code" in chosen else set()
    for row in rows if chosen else ():
        info = read_json(row.get("verification_info"))
        languages |= {row.get("language"), info.get("language") if isinstance(info, dict) else None}
        if row.get("generated_checker"):
            languages.add("python")
    for language in languages:
        if language is not None:
            check_sandbox(language)


def _limit_programs(args: Any) -> dict[str, Any]:
    """Returns the arguments of rewards that run programs."""
    cpu_s = getattr(args, "code_cpu_s", DEFAULT_LIMITS.cpu_s)
    memory_bytes = getattr(args, "code_memory_bytes", DEFAULT_LIMITS.memory_bytes)
    num_parallel = getattr(args, "parallel_code_exec_per_proc", NUM_PARALLEL)
    return {"limits": Limits.of_cpu(cpu_s, memory_bytes), "num_parallel": num_parallel}
