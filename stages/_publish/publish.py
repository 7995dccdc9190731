"""Publishes recorded artifacts, or says what that does. All checks come before the first byte."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import asyncssh
import httpx
from botocore.exceptions import BotoCoreError, ClientError
from dvc.exceptions import DvcException
from dvc.repo import Repo

from stages._publish import hub, remote
from stages._publish.bundle import make_bundle
from stages._publish.credentials import read_hub_token, redact
from stages._publish.record import check_tree, choose, find_commit, list_artifacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stages._publish.bundle import Bundle
    from stages._publish.files import File
    from stages._publish.record import Artifact

# What libraries raise for what the other side says, and for what is not there.
_ERRORS = (
    ValueError,
    OSError,
    RuntimeError,
    DvcException,
    httpx.HTTPError,
    BotoCoreError,
    ClientError,
    asyncssh.Error,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the command line says; names are below artifacts/, none: all (of a DVC remote)."""

    names: Sequence[str]
    to: Literal["hub", "remote"]
    repo: str | None
    remote: str | None
    licence: str | None
    source: str | None
    is_private: bool
    push: bool


def publish(root: Path, options: Options) -> Iterator[str]:
    """Yields the lines of what is published, or would be without `push`.

    Raises:
        ValueError: it is not what was recorded, a secret or an option is missing, or the other side
            refused; in one line, without the values of secrets.
    """
    with _in_one_line():
        lines = _to_hub(root, options) if options.to == "hub" else _to_remote(root, options)
        for line in lines:
            yield redact(line)


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Makes of errors of the libraries and the other side a line that holds no secret."""
    try:
        yield
    except _ERRORS as error:
        cause = f" ({error.__cause__})" if isinstance(error, RuntimeError) else ""
        text = " ".join(f"{error}{cause}".split())
        if not isinstance(error, ValueError):
            text = f"{type(error).__name__}: {text}"
        raise ValueError(redact(text)) from None


def _to_hub(root: Path, options: Options) -> Iterator[str]:
    if options.repo is None or options.remote is not None:
        raise ValueError("--to hub needs --repo ORG/NAME, and no --remote")
    if not options.names:
        raise ValueError("--to hub needs the names of artifacts, e.g. sft grpo filter")
    if options.push:
        read_hub_token()  # before the minutes that hashing may take
    with Repo(str(root)) as repo:
        artifacts = choose(list_artifacts(repo, root), options.names)
        places = [hub.name_repository(artifact, options.repo) for artifact in artifacts]
        bundles = _make_bundles(root, options, artifacts, [place.name for place in places])
    if not options.push:
        for bundle, place in zip(bundles, places, strict=True):
            rows = [(file, f"{place.url}/blob/main/{file.path}") for file in bundle.files]
            yield from _show(bundle, place.url, rows)
        yield from _conclude(bundles)
        return
    api = hub.connect()
    for bundle, place in zip(bundles, places, strict=True):
        yield _describe(bundle, place.url)
        yield from hub.push(api, place, bundle, is_private=options.is_private)


def _to_remote(root: Path, options: Options) -> Iterator[str]:
    if options.remote is None or options.repo is not None or options.is_private:
        raise ValueError("--to remote needs --remote NAME or ADDRESS, and no --repo or --private")
    target = remote.open_target(root, options.remote)
    with target.repo as repo:
        recorded = list_artifacts(repo, root)
        artifacts = choose(recorded, options.names or list(recorded))
        addresses = [artifact.path for artifact in artifacts]
        bundles = _make_bundles(root, options, artifacts, addresses)
        for bundle in bundles:
            remote.check_cache(target, bundle)
        if not options.push:
            for bundle in bundles:
                rows = [(file, target.place(file.md5)) for file in bundle.recorded]
                rows += [(file, target.place_along(bundle, file.path)) for file in bundle.along]
                yield from _show(bundle, target.url, rows)
            yield from _conclude(bundles)
            return
        for bundle in bundles:
            yield _describe(bundle, target.url)
            yield from remote.push(target, bundle)
        yield from remote.explain_pull(target, addresses)


def _make_bundles(
    root: Path, options: Options, artifacts: Sequence[Artifact], addresses: Sequence[str]
) -> list[Bundle]:
    check_tree(root)
    return [
        make_bundle(
            root,
            artifact,
            find_commit(root, artifact),
            licence=options.licence,
            repository=options.source or "",
            address=address,
        )
        for artifact, address in zip(artifacts, addresses, strict=True)
    ]


def _describe(bundle: Bundle, place: str) -> str:
    return f"{bundle.artifact.path}, as recorded at {bundle.commit[:10]} -> {place}"


def _show(bundle: Bundle, place: str, rows: Sequence[tuple[File, str]]) -> Iterator[str]:
    """Yields what would be sent: the files, the licences and the card."""
    yield _describe(bundle, place)
    yield f"  licence {bundle.licence}, from:"
    for source in bundle.sources:
        yield f"    {source.what}: {source.origin}, {source.licence or 'licence not known here'}"
    width = max(len(file.path) for file, _ in rows)
    yield f"  {'file':{width}} {'bytes':>14} {'sha256':64} goes to"
    for file, goal in rows:
        yield f"  {file.path:{width}} {file.size:14,} {file.sha256} {goal}"
    if bundle.card:
        yield "  the card:"
        yield from (f"  | {line}".rstrip() for line in bundle.card.splitlines())


def _conclude(bundles: Sequence[Bundle]) -> Iterator[str]:
    files = [file for bundle in bundles for file in bundle.files]
    size = sum(file.size for file in files)
    yield f"nothing was sent: --push sends these {len(files)} files, {size:,} bytes"
