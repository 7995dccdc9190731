"""Bounds of sft's, grpo's and preference's parameters, starting from the shipped values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages._contract.params import load
from stages.sft.training_params import check_training

PARAMS = Path(__file__).parents[3] / "params.yaml"


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        ("sft", {"learning_rate": 0.0}, "sft.learning_rate must be > 0, not 0.0"),
        ("sft", {"warmup_steps": -0.1}, "sft.warmup_steps must be >= 0, not -0.1"),
        ("sft", {"max_length": 0}, "sft.max_length must be >= 1, not 0"),
        ("sft", {"dataset": "/data/x.jsonl"}, "sft.dataset must lie below the repository's root"),
        ("sft", {"num_processes": 0}, "sft.num_processes must be >= 1, not 0"),
        ("sft", {"num_processes": 2}, "sft.num_processes is 2 and distributed is none: choose ddp"),
        ("sft", {"distributed": "ddp"}, "sft.distributed is ddp for one process: set it to none"),
        ("sft", {"min_lr_rate": 0.1}, r"in \(0, 1\) with .* cosine_with_min_lr, .* not 0.1 with"),
        ("sft", {"lr_scheduler_type": "cosine_with_min_lr"}, "not 0.0 with cosine_with_min_lr"),
        ("sft", {"save_steps": 0}, "sft.save_steps must be >= 1, or null"),
        ("sft", {"use_liger_kernel": True}, "loss_type is chunked_nll: .* set loss_type to nll"),
        ("sft", {"dataset_num_proc": 0}, "sft.dataset_num_proc must be >= 1, or null"),
        ("sft", {"packing": True}, "sft.packing needs attn_implementation flash_attention_2"),
        ("grpo", {"num_generations": 1}, "must be >= 2, not 1: a completion's advantage"),
        ("grpo", {"num_generations": 7}, r"\(7\) must divide .*, which is 32: whole groups"),
        ("grpo", {"per_device_train_batch_size": 0}, "grpo.per_device_train_batch_size must be"),
        ("grpo", {"rewards": {"acuracy": 1.0}}, "no 'acuracy': did you mean 'accuracy'?"),
        ("grpo", {"rewards": {"beauty": 1.0}}, "no 'beauty': there are accuracy, answer_accuracy,"),
        ("grpo", {"rewards": {"accuracy": 0.0}}, "at least one reward a weight other than 0"),
        ("grpo", {"max_unscorable_rate": 1.5}, r"max_unscorable_rate must be in \[0, 1\], not 1.5"),
        ("grpo", {"model": "../sft"}, "model must lie below the repository's root, not"),
        ("grpo", {"num_processes": 2}, "grpo.num_processes is 2 and distributed is none"),
        ("grpo", {"steps_per_generation": 0}, "steps_per_generation must be >= 1, or null"),
        ("grpo", {"steps_per_generation": 3, "num_generations": 64}, "which is 96: whole groups"),
        (
            "grpo",
            {"save_steps": 50, "steps_per_generation": 256, "gradient_accumulation_steps": 16},
            "grpo.save_steps must be a multiple of 16, or null, not 50: .* hold no completions",
        ),
        ("grpo", {"save_steps": 1, "num_iterations": 2}, "save_steps must be a multiple of 2"),
        (
            "grpo",
            {"attn_implementation": "flash_attention_2"},
            "share_prompts is true, but attn_implementation flash_attention_2 takes no mask",
        ),
        ("grpo", {"use_liger_kernel": True}, "share_prompts and use_liger_kernel are true"),
        ("grpo", {"epsilon_high": 0.1}, r"epsilon_high must be >= epsilon \(0.2\), or null"),
        (
            "grpo",
            {"loss_type": "cispo"},
            "must be >= 1 with loss_type cispo, not None",
        ),
        ("grpo", {"loss_type": "cispo", "epsilon_high": 0.28}, "cispo, not 0.28: it is the cap"),
        (
            "grpo",
            {"vllm_importance_sampling_clip_min": 3.0},
            r"min \(3.0\) must be below",
        ),
        ("grpo", {"vllm_importance_sampling_clip_max": 0.0}, r"_max \(0.0\) > 0"),
        (
            "grpo",
            {
                "vllm_importance_sampling_mode": "token_truncate",
                "vllm_importance_sampling_clip_max": None,
            },
            "token_truncate has nothing to truncate at: set .*clip_max, such as 3.0, or",
        ),
        (
            "grpo",
            {"max_num_gen_batches": 1},
            "must be >= 2, or null for no dynamic sampling, not 1",
        ),
        (
            "grpo",
            {"max_num_gen_batches": 2, "scale_rewards": "batch"},
            "max_num_gen_batches needs scale_rewards group or none",
        ),
        (
            "grpo",
            {
                "max_num_gen_batches": 2,
                "distributed": "ddp",
                "num_processes": 2,
                "num_generations": 64,
            },
            r"whole groups in each process: num_generations \(64\) must divide .* which is 32",
        ),
        ("grpo", {"ref_model_mixup_alpha": 0.0}, r"mixup_alpha must be in \(0, 1\], not 0.0: 1.0"),
        ("grpo", {"sync_ref_model": True, "beta": 0.0}, "there is no reference model then"),
        ("grpo", {"beta": -0.1}, "grpo.beta must be >= 0, not -0.1"),
        ("grpo", {"temperature": 0.0}, "grpo.temperature must be > 0, not 0.0"),
        ("grpo", {"top_p": 0.0}, r"grpo.top_p must be in \(0, 1\], not 0.0"),
        ("grpo", {"max_steps": 0}, "grpo.max_steps must be >= 1, not 0"),
        ("grpo", {"save_steps": 0}, "grpo.save_steps must be >= 1, or null"),
        (
            "grpo",
            {"reward_models": {"../rm": 1.0}},
            "reward_models must lie below the repository's",
        ),
        (
            "grpo",
            {"reward_models": {"a/x": 1.0, "b/x": 1.0}},
            "'x' is the last part of two folders",
        ),
        ("grpo", {"reward_models": {"artifacts/length": 1.0}}, "'length' is the last part of two"),
        ("preference", {"model": "/models/r1"}, "preference.model must lie below the repository's"),
        ("preference", {"dataset": "../x.jsonl"}, "preference.dataset must lie below the reposit"),
        (
            "preference",
            {"kinds": ["safe", "safe"]},
            "preference.kinds must name each kind once, not",
        ),
        ("preference", {"system_prompt": " "}, "preference.system_prompt must have a text, or be"),
        ("preference", {"held_out_share": 0.0}, r"held_out_share must be in \(0, 1\), not 0.0"),
        ("preference", {"held_out_share": 1.0}, r"held_out_share must be in \(0, 1\), not 1.0"),
        ("preference", {"learning_rate": 0.0}, "preference.learning_rate must be > 0, not 0.0"),
        ("preference", {"weight_decay": -0.1}, "preference.weight_decay must be >= 0, not -0.1"),
        ("preference", {"max_length": 0}, "preference.max_length must be >= 1, not 0"),
        ("preference", {"save_steps": 0}, "preference.save_steps must be >= 1, or null"),
        ("preference", {"num_processes": 2}, "preference.num_processes is 2 and distributed is no"),
        ("preference", {"min_lr_rate": 0.1}, r"in \(0, 1\) with .* cosine_with_min_lr, .* not 0.1"),
        (
            "preference",
            {"center_rewards_coefficient": 0.0},
            "must be > 0, or null for no such term",
        ),
    ],
)
def test_bounds_name_key_and_remedy(stage: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(load(PARAMS, stage), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"cosine_min_value_wrong": 0.0},
            r"_wrong must be <= cosine_max_value_wrong \(-0.5\), not 0.0: .* ascending order",
        ),
        (
            {"cosine_max_value_correct": 0.0},
            "min_value_correct must be <= cosine_max_value_correct",
        ),
        (
            {"cosine_max_value_wrong": 0.75},
            r"cosine_max_value_wrong must be <= cosine_min_value_correct \(0.5\), not 0.75",
        ),
        ({"cosine_max_len": 0}, "cosine_max_len must be > 0, not 0"),
        ({"repetition_max_penalty": 0.5}, "repetition_max_penalty must be <= 0, not 0.5"),
        ({"soft_punish_cache": 20000}, r"must be in \(0, max_completion_len\], not 20000"),
        ({"verify_cpu_s": 0.0}, "verify_cpu_s must be > 0, not 0.0"),
        ({"code_memory_bytes": 0}, "code_memory_bytes must be > 0, not 0"),
        ({"parallel_code_exec_per_proc": 0}, "parallel_code_exec_per_proc must be > 0, not 0"),
    ],
)
def test_bounds_of_rewards_arguments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"grpo.reward_args.*{message}"):
        replace(load(PARAMS, "grpo").reward_args, **changes)


def test_bound_of_a_key_that_is_not_there() -> None:
    """A misspelt name in the code is an error, not a bound that is never checked."""
    with pytest.raises(AttributeError, match="max_lenght"):
        check_training("sft", load(PARAMS, "sft"), counts=["max_lenght"])


@pytest.mark.parametrize(
    "changes",
    [
        {"save_steps": 48, "steps_per_generation": 256, "gradient_accumulation_steps": 16},
        {"save_steps": 2, "num_iterations": 2},
        {"save_steps": 1, "steps_per_generation": 1, "gradient_accumulation_steps": 4},
        {"save_steps": None, "num_iterations": 2},
    ],
)
def test_checkpoints_between_batches_of_completions(changes: dict[str, Any]) -> None:
    assert replace(load(PARAMS, "grpo"), **changes).save_steps == changes["save_steps"]


def test_completions_are_sampled_by_all_processes_for_some_steps() -> None:
    params = load(PARAMS, "grpo")
    assert (params.passes_per_generation, params.generation_batch_size) == (1, 32)
    spread = replace(params, distributed="zero3", num_processes=4, steps_per_generation=8)
    assert (spread.passes_per_generation, spread.generation_batch_size) == (8, 1024)
