"""Pushes to DVC remotes: a folder, a server that speaks S3 (moto), and OpenSSH's."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stages._contract.artifacts import sha256_tree
from tests.git import git
from tests.publish.calling import (
    AWS,
    call,
    commit,
    copy_of,
    publish,
    publish_here,
    refused,
    succeeded,
)
from tests.publish.conftest import connect
from tests.repository import call as call_here

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.pipeline

NAMES = ("base", "prompts", "r1-zero/zero_prompts")


def push(repo: Path, remote: str, *names: str, env: Mapping[str, str] | None = None) -> list[str]:
    """Returns what it says of a push of the artifacts, or of all."""
    arguments = ("--to", "remote", "--remote", remote, "--license", "MIT", "--push")
    return succeeded(publish(repo, *names, *arguments, env=env))


def pull(repo: Path, lines: list[str], folder: Path, env: Mapping[str, str] | None = None) -> Path:
    """Returns a fresh clone, after the commands that the push has printed."""
    clone = folder / "clone"
    git(folder, "clone", "-q", str(repo), str(clone))
    commands = lines[lines.index("in a fresh clone:") + 1 :]
    assert commands[-1] == "  python -m stages verify"
    for command in commands[:-1]:
        done = call(clone, *command.split(), env=env)
        assert done.returncode == 0, done.stderr
    return clone


def check_pulled(repo: Path, clone: Path) -> None:
    for name in NAMES:
        path = Path("artifacts", name)
        assert sha256_tree(clone / path) == sha256_tree(repo / path)


def test_folder_gets_the_record_once_and_a_clone_pulls_it(recorded: Path, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    lines = push(recorded, str(remote))
    assert "  sent: model.safetensors" in lines
    clone = pull(recorded, lines, tmp_path)
    check_pulled(recorded, clone)
    # What verify says of what is here; the other stages were not run in this record.
    claims = call_here(clone, "python", "-m", "stages", "verify").stdout.splitlines()
    assert {"PASS dvc.lock: fetch", "PASS dvc.lock: prompts"} <= set(claims)
    head = git(recorded, "rev-parse", "--short=10", "HEAD").strip()
    card = remote / "published/base" / head / "README.md"
    assert "# Rederive: base" in card.read_text(encoding="utf-8")

    before = {path: path.stat().st_mtime_ns for path in remote.rglob("*")}
    lines = push(recorded, str(remote))
    assert [line for line in lines if "sent:" in line] == []
    assert {path: path.stat().st_mtime_ns for path in remote.rglob("*")} == before
    shown = [line for line in lines if line.startswith("  there already: ")]
    assert len(shown) == 3 + sum(
        path.is_file() for name in NAMES for path in (recorded / "artifacts" / name).rglob("*")
    ) + sum(path.is_file() for path in (remote / "published").rglob("*"))


def test_what_the_remote_has_lost_is_sent_again(recorded: Path, tmp_path: Path) -> None:
    """Whatever DVC remembers of it."""
    remote = tmp_path / "remote"
    first = publish_here(recorded, "base", remote=str(remote))
    assert len([line for line in first if line.startswith("  sent: ") and "/" not in line]) == 7
    weights = max((remote / "files").rglob("*"), key=lambda path: path.stat().st_size)
    content = weights.read_bytes()
    weights.unlink()
    lines = publish_here(recorded, "base", remote=str(remote))
    assert [line for line in lines if "sent:" in line] == ["  sent: model.safetensors"]
    assert weights.read_bytes() == content
    weights.unlink()
    weights.write_bytes(content[:-1])
    weights.chmod(0o444)  # or else DVC hashes it, removes it, and sends it again
    message = f"has {len(content) - 1} bytes, not the {len(content)} of model.safetensors: remove"
    with pytest.raises(ValueError, match=message):
        publish_here(recorded, "base", remote=str(remote))


def test_damaged_cache_is_refused(recorded: Path, tmp_path: Path) -> None:
    """The files may be right, and what DVC would send wrong."""
    repo = copy_of(recorded, tmp_path)
    cache = repo / ".dvc/cache/files/md5"
    weights = max(cache.rglob("*"), key=lambda path: path.stat().st_size)
    content = weights.read_bytes()
    weights.unlink()
    with pytest.raises(ValueError, match="DVC's cache has not all of artifacts/base: `dvc commit"):
        publish_here(repo, "base", remote=str(tmp_path / "r"))
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="DVC's cache is damaged: "):
        publish_here(repo, "base", remote=str(tmp_path / "r"))
    assert not (tmp_path / "r").exists()


def test_remote_by_its_name(recorded: Path, tmp_path: Path) -> None:
    """As `dvc remote add` has written it into a file of git's."""
    repo = copy_of(recorded, tmp_path)
    remote = tmp_path / "remote"
    succeeded(call(repo, "dvc", "remote", "add", "Store", str(remote)))
    commit(repo, "a remote")
    lines = push(repo, "store", "prompts")
    assert lines[-3:-1] == ["in a fresh clone:", "  dvc pull --remote store artifacts/prompts"]
    clone = pull(repo, lines, tmp_path)
    assert sha256_tree(clone / "artifacts/prompts") == sha256_tree(repo / "artifacts/prompts")


@pytest.mark.parametrize(
    ("remote", "message"),
    [
        (None, "--to remote needs --remote NAME or ADDRESS, and no --repo or --private"),
        ("nowhere", "DVC has no remote 'nowhere' (it has none): `dvc remote add nowhere ADDRESS`"),
        ("gs://bucket/x", "--remote must be s3://BUCKET/FOLDER, ssh://USER@HOST/FOLDER, or a"),
        ("s3://bucket/x", "s3://bucket/x needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_wrong_remotes_are_one_line(
    recorded: Path, remote: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    with pytest.raises(ValueError, match=re.escape(message)):
        publish_here(recorded, "base", remote=remote)


def test_bucket_gets_the_record_and_a_clone_pulls_it(
    recorded: Path, s3: dict[str, str], tmp_path: Path
) -> None:
    address = "s3://bucket/some/folder"
    dry = ("--to", "remote", "--remote", address, "--license", "MIT")
    assert succeeded(publish(recorded, *dry, env=s3))[-1].startswith("nothing was sent")
    assert connect(s3).list_objects_v2(Bucket="bucket")["KeyCount"] == 0
    lines = push(recorded, address, env=s3)
    check_pulled(recorded, pull(recorded, lines, tmp_path, env=s3))
    objects = read_objects(s3)
    assert "some/folder/files/md5" in {"/".join(key.split("/")[:4]) for key in objects}
    (card,) = [key for key in objects if re.search(r"/published/base/\w+/README.md", key)]
    assert b"# Rederive: base" in objects[card]
    for secret in AWS.values():
        assert all(secret.encode() not in content for content in objects.values())
        assert secret not in "\n".join(lines)
    lines = push(recorded, address, env=s3)
    assert [line for line in lines if "sent:" in line] == []
    assert read_objects(s3) == objects


def read_objects(s3: dict[str, str]) -> dict[str, bytes]:
    """Returns all that is in the bucket."""
    client = connect(s3)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket")
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {key: client.get_object(Bucket="bucket", Key=key)["Body"].read() for key in keys}


def test_bucket_that_is_not_there_is_one_line(recorded: Path, s3: dict[str, str]) -> None:
    arguments = ("--to", "remote", "--remote", "s3://nobody-s", "--license", "MIT", "--push")
    done = publish(recorded, "base", *arguments, env=s3)
    assert "bucket" in refused(done)
    assert all(secret not in done.stdout + done.stderr for secret in AWS.values())


def test_ssh_server_gets_the_record_and_a_clone_pulls_it(
    recorded: Path, ssh: str, tmp_path: Path
) -> None:
    repo = copy_of(recorded, tmp_path)  # beside the home that has the key
    remote = tmp_path / "remote"
    lines = push(repo, f"{ssh}{remote}")
    assert (remote / "files").is_dir()
    check_pulled(repo, pull(repo, lines, tmp_path))
    lines = push(repo, f"{ssh}{remote}")
    assert [line for line in lines if "sent:" in line] == []
    shutil.rmtree(tmp_path / "home/.ssh")
    arguments = ("--to", "remote", "--remote", f"{ssh}{remote}", "--license", "MIT", "--push")
    line = refused(publish(repo, "base", *arguments))
    assert re.match(r"\w*(Permission|Auth)\w*: ", line), line
