"""Which Apptainer image a stage runs in, and running it there on this machine."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages._contract.artifacts import sha256_file
from stages._contract.params import read_strictly

if TYPE_CHECKING:
    from stages._launch.site import ApptainerSite

LOCKS = Path("containers")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLock:
    """What `nox -s images` has written about the image that it built."""

    image: str
    sif_sha256: str
    sif_bytes: int
    revision: str
    inputs: dict[str, str]
    apptainer: str
    debian: dict[str, str]
    wheels: dict[str, str]

    def __post_init__(self) -> None:
        """Checks the digest. Raises ValueError naming the key."""
        if not _SHA256.fullmatch(self.sif_sha256):
            raise ValueError(f"sif_sha256 must be 64 hex digits, not {self.sif_sha256!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image's file; nothing runs in it before it has the digest of the lock."""

    path: str
    sha256: str
    lock: str


def find_image(images: str, name: str) -> Image:
    """Returns the image of that name in the site's folder of images, as its lock has it.

    Raises:
        ValueError: there is no lock, or it is not right.
    """
    path = LOCKS / f"{name}.lock.yaml"
    if not path.is_file():
        raise ValueError(
            f"there is no {path}, which says which image {name} is: build it with "
            f"`python3 -m nox -s images -- {name}`, or set images to null in the site's file"
        )
    lock: ImageLock = read_strictly(path, ImageLock, "image")
    if lock.image != name:
        raise ValueError(f"{path}: image must be {name!r}, not {lock.image!r}: build it again")
    return Image(path=f"{images}/{name}.sif", sha256=lock.sif_sha256, lock=path.as_posix())


def command_of(site: ApptainerSite, image: Image, root: Path, arguments: list[str]) -> list[str]:
    """Returns the command that runs `python -m stages` with the arguments in the image."""
    command = [site.apptainer, "exec", "--containall"]
    if site.gpus:
        command.append("--nv")
    command += ["--workdir", site.scratch, "--pwd", str(root), "--bind", str(root)]
    for bind in site.binds:
        command += ["--bind", bind]
    return [*command, image.path, site.python, "-m", "stages", *arguments]


def check_image(image: Image) -> None:
    """Checks that the image is what its lock says.

    Raises:
        ValueError: it is not there, cannot be read, or has another sha256.
    """
    path = Path(image.path)
    if not path.is_file():
        raise ValueError(
            f"there is no image {path}: copy it there, or change images in the site's file"
        )
    try:
        found = sha256_file(path)
    except OSError as error:
        raise ValueError(
            f"the image {path} cannot be read ({error.strerror}): mend that, or change images in "
            f"the site's file"
        ) from None
    if found != image.sha256:
        raise ValueError(
            f"the image {path} has the sha256 {found}, and {image.lock} says {image.sha256}: copy "
            f"the one that was meant, or build it again"
        )


def replace_process(site: ApptainerSite, image: Image, arguments: list[str]) -> int:
    """Becomes the command, so that signals reach the stage as they are; returns only if it cannot.

    Raises:
        ValueError: the image is not the lock's, there is no such command, or the user may not run
            it or make the scratch.
    """
    root = Path.cwd()
    if not set(str(root)).isdisjoint(":,"):
        raise ValueError(f"{root} holds ':' or ',', which Apptainer splits at: move the repository")
    check_image(image)
    try:
        Path(site.scratch).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"there can be no folder {site.scratch} ({error.strerror}): change scratch in the "
            f"site's file to one that you may write to"
        ) from None
    command = command_of(site, image, root, arguments)
    environment = site.environment | {"R1_IMAGE_SHA256": image.sha256}  # for the manifest
    passed = {f"APPTAINERENV_{name}": value for name, value in environment.items()}
    try:
        os.execvpe(command[0], command, {**os.environ, **passed})  # noqa: S606
    except FileNotFoundError:
        raise ValueError(
            f"there is no {site.apptainer} here: install Apptainer, or change apptainer in the "
            f"site's file"
        ) from None
    except OSError as error:
        raise ValueError(
            f"{site.apptainer} cannot be run ({error.strerror}): change apptainer in the site's "
            f"file to the command that runs images here"
        ) from None
