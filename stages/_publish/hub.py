"""The Hugging Face hub: one repository per artifact, and one commit per push."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import disable_progress_bars, validate_repo_id

from stages._publish.bundle import CARD, SUMS
from stages._publish.cards import CHECKPOINTS, DATA
from stages._publish.credentials import read_hub_token

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stages._publish.bundle import Bundle
    from stages._publish.record import Artifact


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of the hub: its name with the owner's, and "model" or "dataset"."""

    name: str
    kind: str

    @property
    def url(self) -> str:
        """Returns its address."""
        return f"{HfApi().endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"


def name_repository(artifact: Artifact, prefix: str) -> Repository:
    """Returns the repository of an artifact: the prefix, and the artifact's name.

    Raises:
        ValueError: the prefix is no ORG/NAME, or the hub has no repositories of such artifacts.
    """
    if prefix.count("/") != 1:
        raise ValueError(
            f"--repo must be ORG/NAME, which names of artifacts follow, not {prefix!r}"
        )
    if artifact.kind not in CHECKPOINTS + DATA:
        raise ValueError(
            f"{artifact.path} is neither a model nor a data set, and the hub takes no others: "
            "leave it out, or push it to a DVC remote"
        )
    name = f"{prefix}-{artifact.name.replace('/', '-')}"
    validate_repo_id(name)
    return Repository(name, "model" if artifact.kind in CHECKPOINTS else "dataset")


def connect() -> HfApi:
    """Returns the hub's interface, after it has accepted the token.

    Raises:
        ValueError: HF_TOKEN is not set.
    """
    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(token=read_hub_token())
    api.whoami()
    return api


def push(api: HfApi, repository: Repository, bundle: Bundle, *, is_private: bool) -> Iterator[str]:
    """Sends what the repository does not have yet, in one commit, and yields what it did.

    Large files go first, so that a push that was interrupted goes on where it was.

    Raises:
        ValueError: the repository holds something that this command did not put there, or not what
            was sent.
    """
    where = {"repo_id": repository.name, "repo_type": repository.kind}
    api.create_repo(**where, private=is_private or None, exist_ok=True)
    head = api.repo_info(**where).sha
    there = _list(api, repository)
    old = _list_published(api, repository, there, head)
    changed = [f for f in bundle.files if there.get(f.path) not in {f.sha256, f.git_sha1}]
    gone = sorted((old & there.keys()) - {file.path for file in bundle.files})
    for file in bundle.files:
        yield f"  {'sent' if file in changed else 'there already'}: {file.path}"
    yield from (f"  removed, since this record has it not: {path}" for path in gone)
    if not changed and not gone:
        yield f"  nothing to do: {repository.url} has all of it"
        return
    done = api.create_commit(
        **where,
        operations=[
            *(CommitOperationAdd(file.path, file.source) for file in changed),
            *(CommitOperationDelete(path) for path in gone),
        ],
        commit_message=f"{bundle.artifact.name}, as recorded at {bundle.commit}",
        parent_commit=head,
    )
    there = _list(api, repository)
    lost = [f.path for f in bundle.files if there.get(f.path) not in {f.sha256, f.git_sha1}]
    if lost:
        raise ValueError(f"{repository.url} has other bytes than were sent: {', '.join(lost)}")
    yield f"  {repository.url}"
    yield f"  {done.commit_url}"


def _list(api: HfApi, repository: Repository) -> dict[str, str]:
    """Returns the digests of the repository's files: sha256 of large ones, git's of others."""
    tree = api.list_repo_tree(repository.name, repo_type=repository.kind, recursive=True)
    return {
        entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id
        for entry in tree
        if isinstance(entry, RepoFile)
    }


def _list_published(
    api: HfApi, repository: Repository, there: dict[str, str], head: str
) -> set[str]:
    """Returns which files earlier pushes have left there.

    Raises:
        ValueError: there are files, and none of this command's.
    """
    if SUMS in there:
        with tempfile.TemporaryDirectory() as folder:
            path = api.hf_hub_download(
                repository.name, SUMS, repo_type=repository.kind, revision=head, local_dir=folder
            )
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        return {line[66:] for line in lines}  # after 64 digits and two spaces
    others: Sequence[str] = sorted(there.keys() - {".gitattributes", CARD})
    if others:
        raise ValueError(
            f"{repository.url} holds what this command did not put there ({', '.join(others[:3])}"
            f"{', …' if others[3:] else ''}): name another --repo, or empty it"
        )
    return set()
