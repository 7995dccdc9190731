"""Pushes to the hub's protocol, by the hub's own library. No push to the real hub was run."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
import torch
import yaml
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.git import git
from tests.publish.calling import (
    TOKEN,
    call,
    commit,
    copy_of,
    publish,
    publish_here,
    refused,
    succeeded,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.publish.hub import Hub

pytestmark = pytest.mark.pipeline

NAMES = {"base": "models", "prompts": "datasets", "r1-zero/zero_prompts": "datasets"}
TO_HUB = ("--to", "hub", "--repo", "org/re", "--license", "MIT")


def env_of(hub: Hub) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}


def test_dry_run_says_everything_and_asks_nobody(recorded: Path, hub: Hub) -> None:
    env = {"HF_ENDPOINT": hub.url}  # and needs no token
    lines = succeeded(publish(recorded, "base", "prompts", *TO_HUB, env=env))
    assert hub.requests == []
    head = git(recorded, "rev-parse", "--short=10", "HEAD").strip()
    assert lines[0] == f"artifacts/base, as recorded at {head} -> {hub.url}/org/re-base"
    assert lines[1:3] == ["  licence MIT, from:", "    base model: tiny, licence not known here"]
    weights = (recorded / "artifacts/base/model.safetensors").read_bytes()
    (row,) = [line.split() for line in lines if line.startswith("  model.safetensors ")]
    assert row == [
        "model.safetensors",
        f"{len(weights):,}",
        hashlib.sha256(weights).hexdigest(),
        f"{hub.url}/org/re-base/blob/main/model.safetensors",
    ]
    assert "  | # Rederive: base" in lines
    assert f"artifacts/prompts, as recorded at {head} -> {hub.url}/datasets/org/re-prompts" in lines
    assert lines[-1].startswith("nothing was sent: --push sends these ")


def test_push_sends_the_record_once(recorded: Path, hub: Hub, tmp_path: Path) -> None:
    env = env_of(hub)
    lines = succeeded(publish(recorded, *NAMES, *TO_HUB, "--push", "--private", env=env))
    head = git(recorded, "rev-parse", "HEAD").strip()
    assert set(hub.repositories) == {"org/re-base", "org/re-prompts", "org/re-r1-zero-zero_prompts"}
    for name, kind in NAMES.items():
        found = hub.repositories[f"org/re-{name.replace('/', '-')}"]
        assert (f"{found.kind}s", found.is_private) == (kind, True)
        (made,) = found.commits
        assert made["summary"] == f"{name}, as recorded at {head}"
        folder = recorded / "artifacts" / name
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) >= 6
        for path in files:
            assert found.files[path.relative_to(folder).as_posix()] == path.read_bytes()
        sums = found.files["provenance/SHA256SUMS"].decode().splitlines()
        digests = {
            path: hashlib.sha256(content).hexdigest() for path, content in found.files.items()
        }
        assert {f"{digests[path]}  {path}" for path in digests} - set(sums) == {
            f"{digests[path]}  {path}" for path in (".gitattributes", "provenance/SHA256SUMS")
        }
        check_provenance(recorded, name, found.files)
    check_loads(recorded, hub, tmp_path)
    assert f"  {hub.url}/org/re-base" in lines
    assert hub.sent("PUT", r"/storage/\w+/2$") != []  # the weights went in parts
    num_requests = len(hub.requests)

    lines = succeeded(publish(recorded, *NAMES, *TO_HUB, "--push", env=env))
    later = [request[:2] for request in hub.requests[num_requests:]]
    assert {method for method, path in later if path != "/api/repos/create"} == {"GET", "HEAD"}
    assert f"  nothing to do: {hub.url}/org/re-base has all of it" in lines
    assert "  there already: model.safetensors" in lines
    assert all(len(found.commits) == 1 for found in hub.repositories.values())


def check_loads(repo: Path, hub: Hub, folder: Path) -> None:
    """Checks that the libraries that people use read what the hub holds."""
    for name in ("base", "prompts"):
        for path, content in hub.repositories[f"org/re-{name}"].files.items():
            (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / name / path).write_bytes(content)
    tokens = AutoTokenizer.from_pretrained(folder / "base")("Calculate 1", return_tensors="pt")
    folders = (folder / "base", repo / "artifacts/base")
    models = [AutoModelForCausalLM.from_pretrained(path) for path in folders]
    assert torch.equal(*(model(**tokens).logits for model in models))
    cache = str(folder / "cache")
    for config, split in (("default", "train"), ("evaluate-arithmetic", "test")):
        rows = load_dataset(str(folder / "prompts"), config, split=split, cache_dir=cache)
        assert len(rows) == 40
    done = call(folder / "prompts", "sha256sum", "--quiet", "-c", "provenance/SHA256SUMS")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def check_provenance(repo: Path, name: str, files: dict[str, bytes]) -> None:
    """Checks what goes along: the card, the manifest, the lock, and Croissant for data."""
    _, front, text = files["README.md"].decode().split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["license"] == "mit"
    assert f"# Rederive: {name}\n" in text
    assert git(repo, "rev-parse", "HEAD").strip() in text
    record = json.loads(files["provenance/record.json"])
    assert record["artifact"] == f"artifacts/{name}"
    assert record["md5"].removesuffix(".dir") in files[f"provenance/{record['lock']}"].decode()
    assert f"`dvc.lock` has `{record['md5']}`" in text
    kind = "fetch" if name == "base" else "prompts"
    run = f"provenance/runs/{kind}{'-' + name.replace('/', '-') if '/' in name else ''}.json"
    assert json.loads(files[run])["outputs"] == {record["artifact"]: record["sha256"]}
    assert files["provenance/params.yaml"] == (repo / "params.yaml").read_bytes()
    if name == "base":
        assert card["library_name"] == "transformers"
        assert "croissant.json" not in files
        return
    described = json.loads(files["croissant.json"])
    assert described["license"] == "https://spdx.org/licenses/MIT"
    sums = {entry["contentUrl"]: entry["sha256"] for entry in described["distribution"]}
    assert sums["train.jsonl"] == hashlib.sha256(files["train.jsonl"]).hexdigest()
    configs = {entry["config_name"]: entry["data_files"] for entry in card["configs"]}
    assert configs["default"] == [{"split": "train", "path": ["train.jsonl"]}]
    assert configs["evaluate-arithmetic"][0]["split"] == "test"
    assert "matches" not in configs  # it has no rows


def test_interrupted_push_goes_on_where_it_was(recorded: Path, hub: Hub) -> None:
    weights, tokenizer = (
        hashlib.sha256((recorded / "artifacts/base" / name).read_bytes()).hexdigest()
        for name in ("model.safetensors", "tokenizer.json")
    )
    hub.refused_part = "3"
    done = publish(recorded, "base", *TO_HUB, "--push", env=env_of(hub))
    assert "Error while uploading 'model.safetensors' to the Hub. (Bad request" in refused(done)
    assert hub.repositories["org/re-base"].commits == []
    assert tokenizer in hub.objects
    hub.refused_part = ""
    hub.requests.clear()
    succeeded(publish(recorded, "base", *TO_HUB, "--push", env=env_of(hub)))
    assert len(hub.repositories["org/re-base"].commits) == 1
    assert hub.sent("PUT", weights) != []
    assert hub.sent("PUT", tokenizer) == []


def test_next_record_replaces_what_the_last_one_left(
    recorded: Path, hub: Hub, tmp_path: Path
) -> None:
    env = env_of(hub)
    succeeded(publish(recorded, "base", *TO_HUB, "--push", env=env))
    found = hub.repositories["org/re-base"]
    old = found.files["provenance/SHA256SUMS"].decode()
    found.files["provenance/SHA256SUMS"] = f"{old}{'0' * 64}  shard-2.bin\n".encode()
    found.files |= {"shard-2.bin": b"of the last record", "notes.txt": b"a user's"}
    repo = copy_of(recorded, tmp_path)
    path = repo / "params.yaml"
    path.write_text(path.read_text() + "# a comment\n")
    commit(repo, "comment")
    lines = succeeded(publish(repo, "base", *TO_HUB, "--push", env=env))
    assert "  removed, since this record has it not: shard-2.bin" in lines
    assert "  sent: provenance/params.yaml" in lines
    assert "  there already: model.safetensors" in lines
    assert found.files["provenance/params.yaml"] == path.read_bytes()
    assert found.files["notes.txt"] == b"a user's"
    assert "shard-2.bin" not in found.files
    assert len(found.commits) == 2


def test_repository_of_somebody_else_s_files_is_left_alone(recorded: Path, hub: Hub) -> None:
    succeeded(publish(recorded, "base", *TO_HUB, "--push", env=env_of(hub)))
    found = hub.repositories["org/re-base"]
    found.files = {"README.md": b"mine", "weights.bin": b"mine"}
    line = refused(publish(recorded, "base", *TO_HUB, "--push", env=env_of(hub)))
    assert "holds what this command did not put there (weights.bin): name another --repo" in line
    assert found.files == {"README.md": b"mine", "weights.bin": b"mine"}


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({}, "HF_TOKEN is not set: make a token that may write"),
        ({"HF_TOKEN": "hf_another0123456789"}, "HfHubHTTPError: Invalid user token."),
    ],
)
def test_without_a_valid_token_nothing_is_sent(
    recorded: Path, hub: Hub, env: dict[str, str], message: str
) -> None:
    done = publish(recorded, "base", *TO_HUB, "--push", env={"HF_ENDPOINT": hub.url, **env})
    assert refused(done).startswith(message)
    assert "hf_another0123456789" not in done.stderr
    assert hub.sent("POST", ".") == hub.sent("PUT", ".") == []


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["base"], {}, "--to hub needs --repo ORG/NAME, and no --remote"),
        ([], {"repo": "a/b"}, "--to hub needs the names of artifacts, e.g. sft grpo filter"),
        (["base"], {"repo": "b"}, "--repo must be ORG/NAME, which names of artifacts follow, not"),
        (["base"], {"repo": "a/b!"}, "Repo id must use alphanumeric chars"),
        (["base"], {"repo": "a/b", "licence": None}, "the licence is not known for base model"),
    ],
)
def test_wrong_options_are_one_line(
    recorded: Path, names: list[str], options: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        publish_here(recorded, *names, to="hub", push=False, **options)


def test_unknown_licence_of_the_hub_is_its_message(recorded: Path, hub: Hub) -> None:
    arguments = ("base", "--to", "hub", "--repo", "org/re", "--license", "Wrong-1.0", "--push")
    line = refused(publish(recorded, *arguments, env=env_of(hub)))
    assert line == "Invalid metadata in README.md. - bad license"


def test_no_secret_is_in_what_is_printed_or_sent(recorded: Path, hub: Hub, tmp_path: Path) -> None:
    """HF_TOKEN goes to the hub alone, as the header that it is for."""
    other = "s3cr3t-of-another-service"
    env = {**env_of(hub), "WANDB_API_KEY": other}
    done = publish(recorded, "base", "prompts", *TO_HUB, "--push", env=env)
    succeeded(done)
    for _, path, headers, body in hub.requests:
        assert TOKEN.encode() not in body
        assert TOKEN not in path
        shown = {name.lower() for name, value in headers.items() if TOKEN in value}
        assert shown <= (set() if path.startswith("/storage/") else {"authorization"})
        assert other not in f"{path}{headers}"
        assert other.encode() not in body
    for secret in (TOKEN, other):
        assert secret not in done.stdout + done.stderr
        for file in recorded.rglob("*"):
            assert not file.is_file() or secret.encode() not in file.read_bytes()

    repo = copy_of(recorded, tmp_path)
    params = repo / "params.yaml"
    params.write_text(f"{params.read_text()}# wandb: {other}\n")
    commit(repo, "a mistake")
    num_requests = len(hub.requests)
    line = refused(publish(repo, "base", *TO_HUB, "--push", env=env))
    assert line.startswith("provenance/params.yaml has the value of WANDB_API_KEY: remove it there")
    assert other not in line
    assert len(hub.requests) == num_requests
