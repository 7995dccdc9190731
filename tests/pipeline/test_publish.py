"""The recipe's models and data, published: what others get can be loaded, and verified."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from datasets import load_dataset
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages._audit.verify import verify
from stages._contract.artifacts import read_jsonl
from tests.git import git
from tests.publish.calling import TOKEN, call, publish, refused, succeeded
from tests.publish.hub import running_hub
from tests.repository import read

if TYPE_CHECKING:
    from tests.publish.hub import Repository

pytestmark = pytest.mark.pipeline

LICENCE = ("--license", "Apache-2.0")


def download(repository: Repository, folder: Path) -> Path:
    """Returns the folder, with the repository's files."""
    for name, content in repository.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_what_the_hub_holds_can_be_loaded(recipe: Path, tmp_path: Path) -> None:
    with running_hub(TOKEN) as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
        arguments = ("sft", "grpo", "filter", "--to", "hub", "--repo", "org/re", *LICENCE, "--push")
        succeeded(publish(recipe, *arguments, env=env))
    for name in ("sft", "grpo"):
        folder = download(hub.repositories[f"org/re-{name}"], tmp_path / name)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        folders = (folder, recipe / "artifacts" / name)
        models = [AutoModelForCausalLM.from_pretrained(path) for path in folders]
        tokens = tokenizer("Calculate 1 + 2", return_tensors="pt")
        logits = [model(**tokens).logits for model in models]
        assert torch.equal(*logits)
        done = call(folder, "sha256sum", "--quiet", "--check", "provenance/SHA256SUMS")
        assert (done.returncode, done.stdout) == (0, "")
        check_card(recipe, name, folder)
    folder = download(hub.repositories["org/re-filter"], tmp_path / "filter")
    rows = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    recorded = read_jsonl(recipe / "artifacts/filter/train.jsonl")
    assert [row["completion"] for row in rows] == [row["completion"] for row in recorded]
    own = (folder / "provenance/README.md").read_bytes()
    assert own == (recipe / "artifacts/filter/README.md").read_bytes()


def check_card(repo: Path, name: str, folder: Path) -> None:
    """Checks that the card has the scores, and what the model was made from."""
    card = ModelCard.load(folder / "README.md")
    (result,) = card.data.eval_results
    cell = read(repo, f"metrics/evaluate/{name}.json")["arithmetic"]
    assert (result.dataset_type, result.metric_value) == ("arithmetic", cell["accuracy"])
    text = f"{100 * cell['accuracy']:.1f} ± {100 * cell['accuracy_stderr']:.1f}"
    assert f"| arithmetic | {text} |" in card.text
    assert "No other seed is recorded" in card.text
    made_from = ["base", "prompts", "generate", "filter", "sft", "grpo"]
    made_from = made_from[: made_from.index(name) + 1]
    rows = [line.split("`")[1] for line in card.text.splitlines() if line.startswith("| `")]
    # In an order in which each could be made.
    assert sorted(rows) == sorted(made_from)
    assert rows[-1] == name
    assert rows.index("prompts") < rows.index("generate") < rows.index("filter")
    commit = read(repo, f"runs/{name}.json")["commit"]
    assert f"| {name} | 0 | `{commit[:10]}` |" in card.text


def test_a_clone_that_pulls_all_of_it_verifies(recipe: Path, tmp_path: Path) -> None:
    """All artifacts are here then, and are what lock and manifests say."""
    remote = ("--to", "remote", "--remote", str(tmp_path / "remote"), *LICENCE, "--push")
    lines = succeeded(publish(recipe, *remote))
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(recipe), str(clone))
    for command in lines[lines.index("in a fresh clone:") + 1 : -1]:
        done = call(clone, *command.split())
        assert done.returncode == 0, done.stderr
    claims = [c for c in verify(clone) if c.name.startswith(("dvc.lock: ", "runs/", "git: "))]
    assert len(claims) > 25
    assert [claim for claim in claims if claim.problem] == []
    assert [claim for claim in claims if claim.note == "its output is not here"] == []


def test_scores_of_another_model_are_refused(recipe: Path, tmp_path: Path) -> None:
    """A model of a later run, beside evaluations of the one before."""
    copy = tmp_path / "copy"
    shutil.copytree(recipe, copy, symlinks=True)
    lock = copy / "dvc.lock"
    entries = lock.read_text(encoding="utf-8").split("  evaluate@sft-arithmetic:")
    digest = entries[1].split("path: artifacts/sft\n")[1].split("md5: ")[1].split("\n")[0]
    entries[1] = entries[1].replace(digest, f"{'0' * 32}.dir", 1)
    lock.write_text("  evaluate@sft-arithmetic:".join(entries), encoding="utf-8")
    git(copy, "commit", "-qam", "mixed up")
    line = refused(publish(copy, "sft", "--to", "hub", "--repo", "org/re", *LICENCE))
    assert line.startswith("evaluate-sft-arithmetic: HEAD is not what dvc.lock records (")
    assert "artifacts/sft was recorded with another hash by the stage that makes it" in line
