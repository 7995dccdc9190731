"""The recipe, run on a tiny model, as tests want to find it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from stages._contract.artifacts import sha256_tree
from tests.git import git
from tests.repository import change, dvc
from tests.tiny_model import write_model, write_problems

ROOT = Path(__file__).parents[1]


def make_recipe(repo: Path) -> None:
    """Makes the folder a repository with the recipe, run on a tiny model and committed."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "stages", repo / "stages", ignore=skip)
    pages = ("README.md", "REPRODUCE.md")
    locks = ("containers/cpu.lock.txt", "containers/cpu.lock.yaml")
    files = ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore", *locks)
    for name in (*files, *pages):
        (repo / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, repo / name)
    git(repo, "init", "-q")
    dvc(repo, "init", "-q")
    shrink(repo)
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "recipe")
    dvc(repo, "repro")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "run")


def make_source(digest: str) -> dict[str, Any]:
    """Returns the source of prompts that is the recipe's problems.jsonl, with that sha256."""
    return {
        "kind": "jsonl",
        "path": "problems.jsonl",
        "sha256": digest,
        "question_field": "q",
        "answer_field": "a",
        "answer_after": "####",
        "solution_field": None,
        "columns": [],
        "max_invalid": 0,
        "num_train": 40,
        "num_rl": 20,
        "num_evaluate": 40,
    }


def shrink(repo: Path) -> None:
    """Gives the repository a tiny model, a few problems for it, and parameters that suit both."""
    model = repo / "tiny"
    write_model(model)
    digest = write_problems(repo / "problems.jsonl")
    source = make_source(digest)
    engine = {"max_model_len": 256, "max_num_batched_tokens": 256, "max_num_seqs": 32}
    engine |= {"kv_cache_memory_bytes": 2**25}
    change(
        repo,
        {
            "fetch.source": {"kind": "path", "path": "tiny", "sha256": sha256_tree(model)},
            "fetch.expected_sha256": None,
            "prompts.system_prompt": None,
            "prompts.sources": {"arithmetic": source},
            "generate.num_examples": 0,
            "generate.max_tokens": 12,
            "generate.shard_size": 16,
            "filter.min_rows": 8,
            "sft.per_device_train_batch_size": 8,
            "sft.save_steps": 2,
            "grpo.max_steps": 3,
            "grpo.save_steps": 1,
            "grpo.per_device_train_batch_size": 8,
            "grpo.gradient_accumulation_steps": 2,
            "grpo.max_completion_length": 12,
            "report.tasks": ["arithmetic"],
            **{f"generate.engine.{key}": value for key, value in engine.items()},
            **{f"evaluate.engine.{key}": value for key, value in engine.items()},
        },
    )
