"""Nothing is published that is not what a commit records: each way to be stale is named."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dvc.repo import Repo

from stages._publish.credentials import check_remote, find_secrets, redact
from stages._publish.files import digest_as_dvc, digest_folder, read_file, read_folder
from stages._publish.licence import Source, choose_licence, list_sources
from stages._publish.record import check_record, check_tree, choose, find_commit, list_artifacts
from tests.git import git
from tests.publish.calling import commit, copy_of, refused
from tests.repository import call as call_here

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.pipeline


def check(repo: Path, name: str) -> str:
    """Returns the commit that the artifact is published as."""
    check_tree(repo)
    with Repo(str(repo)) as opened:
        (artifact,) = choose(list_artifacts(opened, repo), [name])
        check_record(repo, artifact)
        return find_commit(repo, artifact)


def test_locks_of_core_and_tracks_say_what_there_is(recorded: Path) -> None:
    with Repo(str(recorded)) as opened:
        artifacts = list_artifacts(opened, recorded)
        assert list(artifacts) == ["base", "prompts", "r1-zero/zero_prompts"]
        track = artifacts["r1-zero/zero_prompts"]
        assert (track.kind, track.lock) == ("prompts", "tracks/r1-zero/dvc.lock")
        assert track.target == "tracks/r1-zero/dvc.yaml:zero_prompts"
        assert "Assistant" in track.read_params(recorded)["system_prompt"]
        files = check_record(recorded, track)
    assert digest_as_dvc(files) == track.md5
    run = json.loads((recorded / "runs/prompts-r1-zero-zero_prompts.json").read_text())
    assert digest_folder(files) == run["outputs"][track.path]


def test_later_commits_that_change_nothing_keep_the_record(recorded: Path, tmp_path: Path) -> None:
    repo = copy_of(recorded, tmp_path)
    before = check(repo, "base")
    (repo / "README.md").write_text("more words\n")
    commit(repo, "words")
    assert check(repo, "base") == before == git(recorded, "rev-parse", "HEAD").strip()


def change_code(repo: Path) -> None:
    path = repo / "stages/fetch/stage.py"
    path.write_text(path.read_text() + "# changed\n")
    commit(repo, "code")


def change_params(repo: Path) -> None:
    path = repo / "params.yaml"
    text = path.read_text().replace("require_single_digits: true", "require_single_digits: false")
    path.write_text(text)
    commit(repo, "params")


def change_one_byte(repo: Path) -> None:
    """As a bad disk does: size and time stay."""
    path = repo / "artifacts/base/model.safetensors"
    before, content = path.stat(), path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def make_run_dirty(repo: Path) -> None:
    path = repo / "runs/fetch.json"
    path.write_text(path.read_text().replace('"dirty": false', '"dirty": true'))
    commit(repo, "dirty")


def exchange_manifest(repo: Path) -> None:
    path = repo / "runs/fetch.json"
    run = json.loads(path.read_text())
    run["outputs"]["artifacts/base"] = "0" * 64
    path.write_text(json.dumps(run))
    commit(repo, "another run")


def forget_lock(repo: Path) -> None:
    git(repo, "rm", "-q", "--cached", "dvc.lock")
    git(repo, "commit", "-qm", "forgotten")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda repo: (repo / "params.yaml").write_text("a: 1\n"),
            "the tree is dirty (params.yaml): commit the changes, or `git stash`",
        ),
        (change_code, "stages/fetch is modified; changed since: stages/fetch/stage.py): run `dvc"),
        (change_params, "changed since: params.yaml: fetch): run `dvc repro fetch`, and commit"),
        (
            change_one_byte,
            "artifacts/base is not what dvc.lock records (model.safetensors): `dvc checkout",
        ),
        (
            lambda repo: shutil.rmtree(repo / "artifacts/base"),
            "artifacts/base is not here: `dvc checkout artifacts/base`, or `dvc pull`",
        ),
        (make_run_dirty, "runs/fetch.json is of a run with uncommitted changes): run `dvc repro"),
        (exchange_manifest, "runs/fetch.json is of another artifacts/base than dvc.lock"),
        (forget_lock, "dvc.lock is in no commit: `git add dvc.lock runs metrics`"),
    ],
    ids=lambda value: getattr(value, "__name__", "").strip("<>"),
)
def test_what_is_stale_is_refused(
    recorded: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    repo = copy_of(recorded, tmp_path)
    check(repo, "base")
    damage(repo)
    with pytest.raises(ValueError, match=re.escape(message)):
        check(repo, "base")


def test_what_it_was_made_from_is_checked_without_its_files(recorded: Path, tmp_path: Path) -> None:
    """And another's code does not matter."""
    repo = copy_of(recorded, tmp_path)
    change_code(repo)
    shutil.rmtree(repo / "artifacts/base")
    check(repo, "prompts")


def test_unknown_name_is_one_line_with_the_nearest(recorded: Path) -> None:
    message = "artifacts/promts: did you mean 'prompts'. .there are base, prompts, r1-zero/zero"
    with Repo(str(recorded)) as opened, pytest.raises(ValueError, match=message):
        choose(list_artifacts(opened, recorded), ["promts"])


def test_licence_is_that_of_the_parts_or_the_user_s(recorded: Path) -> None:
    with Repo(str(recorded)) as opened:
        artifacts = list_artifacts(opened, recorded)
        found = list_sources(recorded, list(artifacts.values()))
    assert found == [
        Source(what="base model", origin="tiny", licence=None),
        Source(what="problems arithmetic", origin="problems.jsonl", licence=None),
    ]
    known = Source(what="problems", origin="x of reasoning-gym", licence="Apache-2.0")
    assert choose_licence([known], None) == "Apache-2.0"
    assert choose_licence(found, "MIT") == "MIT"
    with pytest.raises(ValueError, match="not known for base model .tiny., problems arithmetic"):
        choose_licence([known, *found], None)
    other = Source(what="pairs", origin="pairs.jsonl", licence="MIT")
    with pytest.raises(ValueError, match="differs: Apache-2.0, MIT: .* with --license"):
        choose_licence([known, other], None)


def test_digests_are_those_of_the_tools(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b").write_bytes(b"")
    (tmp_path / "a").write_bytes(b"hello\n")
    a, b = read_folder(tmp_path)
    assert (a.path, a.size, b.path, b.size) == ("a", 6, "sub/b", 0)
    assert a.md5 == "b1946ac92492d2347c6235b4d2611184"  # md5sum
    assert a.sha256 == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert a.git_sha1 == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    assert b.git_sha1 == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def test_secret_is_found_wherever_it_lies_and_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "correct-horse-battery"  # noqa: S105
    monkeypatch.setenv("SOME_API_KEY", secret)
    monkeypatch.setenv("SHORT_TOKEN", "false")
    assert find_secrets()["SOME_API_KEY"] == secret
    assert "SHORT_TOKEN" not in find_secrets()
    assert redact(f"it is {secret}!") == "it is <SOME_API_KEY>!"
    for offset in (0, 2**20 - 5, 2**20, 2**21 - len(secret)):  # it is read by mebibytes
        path = tmp_path / "file"
        path.write_bytes(b"-" * offset + secret.encode() + b"-" * 100)
        with pytest.raises(ValueError, match="file has the value of SOME_API_KEY: remove it"):
            read_file("file", path)
    assert read_file("file", b"nothing").size == 7


@pytest.mark.parametrize(
    ("name", "url", "options", "message"),
    [
        ("r", "s3://bucket/x", {}, "s3://bucket/x needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS"),
        ("r", "s3://b", {"secret_access_key": "k"}, "remote 'r' has secret_access_key in DVC's"),
        ("r", "ssh://me@host/x", {"password": "pw"}, "remote 'r' has password in DVC's"),
        ("r", "ssh://me:hunter2@host/x", {}, "the address of r has a password in it"),
    ],
)
def test_remote_with_secrets_elsewhere_is_refused(
    name: str,
    url: str,
    options: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        check_remote(name, url, options)
    assert "hunter2" not in str(refusal.value)
    monkeypatch.setenv("AWS_PROFILE", "work")
    check_remote("r", "s3://bucket/x", {"region": "eu-west-1"})
    check_remote("r", "ssh://me@host/x", {"keyfile": "~/.ssh/other"})


def test_environment_without_the_packages_says_where_they_are(recorded: Path) -> None:
    command = ("-m", "stages", "publish", "--to", "remote", "--remote", "./x")
    line = refused(call_here(recorded, sys.executable, *command))
    assert line.startswith("publish needs dvc_s3, dvc_ssh, mlcroissant, which have an environment")
    assert "`python3 -m nox -s publish -- --to remote …`" in line
