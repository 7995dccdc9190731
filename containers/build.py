"""Builds an image in a sandbox, and writes its lock or compares with it: `nox -s images`."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from containers import sandbox
from containers.lint import find_faults
from containers.pack import DEBIAN, EPOCH
from containers.wheels import download, sha256

ROOT = Path(__file__).parents[1]
CONTAINERS, IMAGES = Path("containers"), Path("images")
_LABEL = "org.opencontainers.image"
# What else than the definition and the packages' lock says which bytes an image has.
_BUILDER = ("compile-bytecode", "pack.py", "versions.py")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
_NEEDED = ("apptainer", "debootstrap", "git", "mount", "unsquashfs")
_NEEDED_BYTES = 12 * 10**9


def main() -> int:
    """Builds the images that are named and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m containers.build", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help="cpu for containers/cpu.def")
    parser.add_argument(
        "--check", action="store_true", help="change no lock: fail if the image is not the lock's"
    )
    arguments = parser.parse_args()
    os.chdir(ROOT)
    try:
        for name in arguments.names:
            (check if arguments.check else update)(name)
    except (ValueError, RuntimeError) as error:
        print(f"rederive: images: {error}", file=sys.stderr)  # noqa: T201 - this is the message
        return 1
    return 0


def update(name: str) -> None:
    """Builds images/NAME.sif and writes containers/NAME.lock.yaml.

    Raises:
        ValueError: it cannot be built here or of these inputs.
        RuntimeError: a build was begun and failed.
    """
    inputs = hash_inputs(name)
    lock = build(name, find_revision(inputs, read_lock(name)), inputs)
    path = lock_path(name)
    with path.with_suffix(".partial").open("w", encoding="utf-8") as file:
        file.write(f"# Made by `python3 -m nox -s images -- {name}`; do not edit.\n")
        _yaml().dump(lock, file)
    path.with_suffix(".partial").replace(path)
    _say(f"images/{name}.sif has the sha256 {lock['sif_sha256']}, written to {path}")


def check(name: str) -> None:
    """Builds images/NAME.sif and compares it with its lock.

    Raises:
        ValueError: there is no lock, or it is another image's; names what differs.
        RuntimeError: a build was begun and failed.
    """
    recorded = read_lock(name)
    if recorded is None:
        raise ValueError(f"there is no {lock_path(name)}: `python3 -m nox -s images -- {name}`")
    inputs = hash_inputs(name)
    changed = find_changes(recorded["inputs"], inputs)
    if changed:
        raise ValueError(
            f"{', '.join(changed)} changed since {lock_path(name)} was written: build the image "
            f"and commit its lock, `python3 -m nox -s images -- {name}`"
        )
    found = build(name, recorded["revision"], inputs)
    if found["sif_sha256"] != recorded["sif_sha256"]:
        raise ValueError(explain(recorded, found))
    _say(f"images/{name}.sif is what {lock_path(name)} says, byte for byte")


def build(name: str, revision: str, inputs: dict[str, str]) -> dict[str, Any]:
    """Builds images/NAME.sif and returns what its lock must say.

    Raises:
        ValueError: it cannot be built on this machine or of this definition.
        RuntimeError: a build was begun and failed.
    """
    definition = CONTAINERS / f"{name}.def"
    text = definition.read_text(encoding="utf-8")
    faults = find_faults(text)
    if faults:
        raise ValueError(f"{definition}: {'; '.join(faults)}")
    check_machine()
    IMAGES.mkdir(exist_ok=True)
    with (IMAGES / ".building").open("w", encoding="utf-8") as running:
        try:
            fcntl.flock(running, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError("an image is being built in this folder: wait for its end") from None
        folder = ROOT / IMAGES / "build"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        lock = CONTAINERS / f"{name}.lock.txt"
        wheels = download(lock, ROOT / IMAGES / "wheels" / name)
        mirror = os.environ.get("DEBIAN_MIRROR", DEBIAN)
        local = folder / definition.name
        local.write_text(text.replace(f"MirrorURL: {DEBIAN}", f"MirrorURL: {mirror}"), "utf-8")
        tree, packed = folder / "tree", folder / f"{name}.sif"
        bind = ("--bind", f"{ROOT / IMAGES / 'wheels' / name}:/mnt")
        _run(["apptainer", "build", "--sandbox", *bind, str(tree), str(local)], folder)
        labels = {
            f"{_LABEL}.title": f"rederive-{name}",
            f"{_LABEL}.revision": revision,
            "rederive.lock.sha256": inputs[str(lock)],
        }
        paths = [str(tree), str(packed), str(definition), json.dumps(labels)]
        _run([sys.executable, "-m", "containers.pack", *paths], folder)
        debian = json.loads(packed.with_suffix(".packages.json").read_text(encoding="utf-8"))
        image = packed.replace(IMAGES / packed.name)
        shutil.rmtree(folder)
    return {
        "image": name,
        "sif_sha256": sha256(image),
        "sif_bytes": image.stat().st_size,
        "revision": revision,
        "inputs": inputs,
        "apptainer": _apptainer_version(),
        "debian": debian,
        "wheels": wheels,
    }


def explain(recorded: dict[str, Any], found: dict[str, Any]) -> str:
    """Returns in what the image that was built differs from its lock, and what to do about it."""
    name = recorded["image"]
    text = (
        f"images/{name}.sif has the sha256 {found['sif_sha256']}, and {lock_path(name)} says "
        f"{recorded['sif_sha256']}: "
    )
    if recorded["apptainer"] != found["apptainer"]:
        return text + (
            f"Apptainer is {found['apptainer']} here and was {recorded['apptainer']}, and puts "
            f"scripts of its own into images: use that version, or write a new lock"
        )
    debian = find_changes(recorded["debian"], found["debian"])
    if debian:
        versions = "; ".join(
            f"{package} {_version(recorded, package)} -> {_version(found, package)}"
            for package in debian
        )
        return text + (
            f"Debian's packages differ ({versions}): set DEBIAN_MIRROR to a mirror that has the "
            f"old ones, e.g. http://snapshot.debian.org/archive/debian/<a day before>/, or write a "
            f"new lock"
        )
    wheels = find_changes(recorded["wheels"], found["wheels"])
    if wheels:
        return text + (
            f"other files of the same packages were found ({', '.join(wheels)}): pip's index here "
            f"lacks the recorded ones or has more; use another, or write a new lock"
        )
    return text + (
        "the packages are the same, so that something in the build varies, which is a fault of "
        "containers/: compare the two images with diffoscope, and report it"
    )


def _version(lock: dict[str, Any], package: str) -> str:
    return str(lock["debian"].get(package, "none")).partition(" ")[0]


def find_changes(recorded: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Returns the keys whose values differ, or that only one has."""
    return sorted(key for key in recorded | found if recorded.get(key) != found.get(key))


def hash_inputs(name: str) -> dict[str, str]:
    """Returns the sha256 of each file of the repository that an image's bytes depend on.

    Raises:
        ValueError: one is not there.
    """
    paths = [CONTAINERS / file for file in (*_BUILDER, f"{name}.def", f"{name}.lock.txt")]
    known = ", ".join(sorted(path.stem for path in CONTAINERS.glob("*.def")))
    for path in paths:
        if not path.is_file():
            raise ValueError(f"the image {name!r} needs {path}, which is not there; known: {known}")
    return {str(path): sha256(path) for path in sorted(paths)}


def find_revision(inputs: dict[str, str], recorded: dict[str, Any] | None) -> str:
    """Returns the commit that last changed the inputs: the lock's where they are still the lock's.

    Histories get rewritten; an image does not change for that.

    Raises:
        ValueError: the inputs are not committed.
    """
    if recorded and recorded["inputs"] == inputs:
        return str(recorded["revision"])
    changes = _git("status", "--porcelain", "--", *inputs)
    if changes:
        raise ValueError(
            f"the image's label names the commit of what it is made of, and this is not committed: "
            f"{', '.join(line[3:] for line in changes.splitlines())}"
        )
    return _git("log", "-1", "--format=%H", "--", *inputs).strip()


def read_lock(name: str) -> dict[str, Any] | None:
    """Returns what an image's lock says, or None if it was never built."""
    try:
        lock: dict[str, Any] = YAML(typ="safe", pure=True).load(lock_path(name))
    except FileNotFoundError:
        return None
    return lock


def lock_path(name: str) -> Path:
    """Returns where an image's lock is."""
    return CONTAINERS / f"{name}.lock.yaml"


def check_machine() -> None:
    """Checks that images can be built here.

    Raises:
        ValueError: they cannot; names the remedy.
    """
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [name for name in _NEEDED if not shutil.which(name, path=path)]
    if missing:
        raise ValueError(
            f"building an image needs {', '.join(missing)}: run containers/install-apptainer as "
            f"root, on Debian"
        )
    for used in (ROOT, Path(sys.executable), Path(sys.base_prefix)):
        sandbox.check_visible(used)
    free = shutil.disk_usage(ROOT).free
    if free < _NEEDED_BYTES:
        raise ValueError(
            f"{_NEEDED_BYTES / 1e9:.0f} GB of disk are needed in {ROOT}, {free / 1e9:.1f} are free"
        )


def _run(command: list[str], folder: Path) -> None:
    """Runs a command in the sandbox, with no more of this environment than it needs."""
    environment = {name: os.environ[name] for name in _PROXIES if name in os.environ}
    environment |= {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "PYTHONHASHSEED": "0",
        "APPTAINER_TMPDIR": str(folder),
        "APPTAINER_CACHEDIR": str(folder / "cache"),
        "container": "lxc",  # so debootstrap binds devices, which it may not make
    }
    status = sandbox.run(command, environment=environment, cwd=ROOT)
    if status:
        raise RuntimeError(f"{' '.join(command[:3])} ended with {status}: see above")


def _apptainer_version() -> str:
    version = subprocess.run(["apptainer", "version"], check=True, capture_output=True, text=True)  # noqa: S607
    return re.sub(r"\s.*", "", version.stdout.strip())


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 200
    return yaml


def _say(text: str) -> None:
    print(f"rederive: images: {text}", flush=True)  # noqa: T201 - a command's report


if __name__ == "__main__":
    sys.exit(main())
