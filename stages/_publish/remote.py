"""DVC remotes: a bucket of S3, a folder of an SSH server, or one of this machine."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.transfer import transfer

from stages._publish.credentials import check_remote
from stages._publish.files import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stages._publish.bundle import Bundle

_SCHEMES = ("", "s3", "ssh")
# What DVC calls a remote that the user gave the address of.
_UNNAMED = "publish"
# Beside DVC's own files/: cards and provenance, for people.
_FOLDER = "published"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A DVC remote, and the repository with DVC's configuration of it."""

    name: str
    url: str
    repo: Repo

    def place(self, md5: str) -> str:
        """Returns the address at which DVC puts what has that digest."""
        return f"{self.url}/files/md5/{md5[:2]}/{md5[2:]}"

    def place_along(self, bundle: Bundle, path: str) -> str:
        """Returns the address at which something goes that is about the artifact."""
        return f"{self.url}/{_FOLDER}/{bundle.artifact.name}/{bundle.commit[:10]}/{path}"


def open_target(root: Path, text: str) -> Target:
    """Returns the remote that the user names, or gives the address of; nothing is connected yet.

    Raises:
        ValueError: there is no such remote, it is of another kind, or it holds a secret.
    """
    if "/" in text:
        url = text.rstrip("/") if "://" in text else os.path.abspath(text)  # noqa: PTH100 - keeps links
        name, options = _UNNAMED, {}
        repo = Repo(str(root), remote=_UNNAMED, remote_config={"url": url})
    else:
        name, repo = text.lower(), Repo(str(root))  # as DVC does
        options = dict(repo.config["remote"].get(name, {}))
        if not options:
            known = ", ".join(repo.config["remote"]) or "none"
            raise ValueError(
                f"DVC has no remote {text!r} (it has {known}): `dvc remote add {text} ADDRESS`, or "
                "give --remote the address: s3://BUCKET/FOLDER, ssh://USER@HOST/FOLDER, ./FOLDER"
            )
        url = str(options["url"]).rstrip("/")
    scheme = urlsplit(url).scheme
    if scheme not in _SCHEMES:
        raise ValueError(
            "--remote must be s3://BUCKET/FOLDER, ssh://USER@HOST/FOLDER, or a folder of this "
            f"machine, such as ./FOLDER, not {scheme}://"
        )
    check_remote(name, url, options)
    return Target(name=name, url=url, repo=repo)


def check_cache(target: Target, bundle: Bundle) -> None:
    """Checks that DVC's cache, which is what is sent, holds what the lock records.

    Raises:
        ValueError: it lacks something, or a file there is damaged.
    """
    cache = target.repo.cache.local
    artifact = bundle.artifact
    for md5 in (artifact.md5, *(file.md5 for file in bundle.recorded)):
        path = Path(cache.oid_to_path(md5))
        if not path.is_file():
            raise ValueError(
                f"DVC's cache has not all of {artifact.path}: `dvc commit --force "
                f"{artifact.target}` puts it there"
            )
        if read_file(path.name, path).md5 != md5.removesuffix(".dir"):
            raise ValueError(
                f"DVC's cache is damaged: {path} has another digest than its name; remove it, then "
                f"`dvc commit --force {artifact.target}`"
            )


def push(target: Target, bundle: Bundle) -> Iterator[str]:
    """Sends what the remote does not have yet, and yields what it did; the list of files goes last.

    Raises:
        ValueError: something did not arrive.
    """
    remote = target.repo.cloud.get_remote(target.name)
    folder = bundle.artifact.md5
    digests = [folder, *(file.md5 for file in bundle.recorded)]
    there = set(remote.odb.oids_exist(digests))
    _transfer(target, remote.odb, folder)
    paths = {folder: "DVC's list of the files"} | {f.md5: f.path for f in bundle.recorded}
    sizes = {file.md5: file.size for file in bundle.recorded}
    for md5, path in paths.items():
        found = remote.fs.info(remote.odb.oid_to_path(md5))["size"]
        if found != sizes.get(md5, found):
            raise ValueError(
                f"{target.place(md5)} has {found} bytes, not the {sizes[md5]} of {path}: remove "
                "it, and push again"
            )
        yield f"  {'there already' if md5 in there else 'sent'}: {path}"
    for file in bundle.along:
        assert isinstance(file.source, bytes), "what goes along was made here"
        place = target.place_along(bundle, file.path)
        path = remote.fs.join(remote.path, *place.removeprefix(f"{target.url}/").split("/"))
        is_there = remote.fs.exists(path) and remote.fs.cat_file(path) == file.source
        if not is_there:
            remote.fs.makedirs(remote.fs.parent(path), exist_ok=True)
            remote.fs.pipe_file(path, file.source)
        yield f"  {'there already' if is_there else 'sent'}: {place}"


def _transfer(target: Target, odb: Any, folder: str) -> None:
    """Lets DVC send a folder; it asks for each file, instead of believing what it remembers."""
    cache = target.repo.cache.local
    logger, errors = logging.getLogger(transfer.__module__), _Errors()
    logger.addHandler(errors)
    logger.propagate = False
    try:
        done = transfer(cache, odb, {HashInfo("md5", folder)}, cache_odb=cache, shallow=False)
    finally:
        logger.removeHandler(errors)
        logger.propagate = True
    if done.failed:
        raise ValueError(
            f"{len(done.failed)} files did not reach {target.url} "
            f"({'; '.join(dict.fromkeys(errors.found))}): run the same again, which sends the rest"
        )


class _Errors(logging.Handler):
    """Keeps the errors that DVC logs and does not raise."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps what went wrong."""
        self.found.append(str(record.exc_info[1] if record.exc_info else record.getMessage()))


def explain_pull(target: Target, paths: Sequence[str]) -> Iterator[str]:
    """Yields the commands by which a fresh clone gets what was pushed."""
    yield "in a fresh clone:"
    if target.name == _UNNAMED:
        yield f"  dvc remote add --local {_UNNAMED} {target.url}"
    yield f"  dvc pull --remote {target.name} {' '.join(paths)}"
    yield "  python -m stages verify"
