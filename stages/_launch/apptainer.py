"""A stage in an Apptainer image on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from stages._contract.artifacts import sha256_file

if TYPE_CHECKING:
    from stages._launch.site import ApptainerSite, Image


def command_of(site: ApptainerSite, root: Path, arguments: list[str]) -> list[str]:
    """Returns the command that runs `python -m stages` with the arguments in the site's image."""
    command = [site.apptainer, "exec", "--containall"]
    if site.gpus:
        command.append("--nv")
    command += ["--workdir", site.scratch, "--pwd", str(root), "--bind", str(root)]
    for bind in site.binds:
        command += ["--bind", bind]
    return [*command, site.image.path, site.python, "-m", "stages", *arguments]


def check_image(image: Image) -> None:
    """Checks that the image is what the site's file says.

    Raises:
        ValueError: it is not there, or has another sha256.
    """
    path = Path(image.path)
    if not path.is_file():
        raise ValueError(f"there is no image {path}: copy it there, or change image.path")
    found = sha256_file(path)
    if found != image.sha256:
        raise ValueError(
            f"the image {path} has the sha256 {found}, and image.sha256 is {image.sha256}: copy it "
            f"again, or use the image that was meant"
        )


def replace_process(site: ApptainerSite, arguments: list[str]) -> int:
    """Becomes the command, so that signals reach the stage as they are; returns only if it cannot.

    Raises:
        ValueError: the image is not the site's, or there is no such command.
    """
    root = Path.cwd()
    if not set(str(root)).isdisjoint(":,"):
        raise ValueError(f"{root} holds ':' or ',', which Apptainer splits at: move the repository")
    check_image(site.image)
    Path(site.scratch).mkdir(parents=True, exist_ok=True)
    command = command_of(site, root, arguments)
    passed = {f"APPTAINERENV_{name}": value for name, value in site.environment.items()}
    try:
        os.execvpe(command[0], command, {**os.environ, **passed})  # noqa: S606
    except FileNotFoundError:
        raise ValueError(
            f"there is no {site.apptainer} here: install Apptainer, or change apptainer in the "
            f"site's file"
        ) from None
