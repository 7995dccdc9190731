"""Makes an image's file of the folder that `apptainer build --sandbox` has filled, with bytes that
depend on nothing but the packages: runs in the sandbox as `python -m containers.pack`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import subprocess
import sys
import uuid
from pathlib import Path

EPOCH = 1_735_689_600  # 2025-01-01: every time in an image
DEBIAN = "http://deb.debian.org/debian"  # what images name, wherever their packages came from
_EMPTIED = ("run", "var/cache", "var/lib/apt/lists", "var/log")
_REMOVED = (
    "etc/*-",
    "etc/pip.conf",
    "var/lib/dpkg/*-old",
    "root/.cache",
    "root/.config",
    ".post.script",
)
# The builder's, and at run time Apptainer mounts its own over them.
_BLANK = ("etc/hostname", "etc/hosts", "etc/machine-id", "etc/resolv.conf")
_LABELS = re.compile(r"org\.label-schema\.(build-arch|schema-version|usage\.apptainer\.version)")
_SQUASH = (
    *("-noappend", "-no-progress", "-quiet", "-no-xattrs", "-all-root"),
    *("-all-time", str(EPOCH), "-mkfs-time", str(EPOCH), "-b", "256K"),
    *("-comp", "zstd", "-Xcompression-level", "3"),
)
_DESCRIPTOR_BYTES = 585


def pack(tree: Path, image: Path, definition: Path, labels: dict[str, str]) -> None:
    """Writes the image, and beside it as .packages.json which of Debian's packages it holds."""
    packages = list_packages(tree)
    clean(tree)
    write_labels(tree, labels)
    shutil.copyfile(definition, tree / ".singularity.d/Singularity")
    squash = image.with_suffix(".squashfs")
    # The image's own mksquashfs, as another version might give other bytes.
    folders = ["--bind", f"{tree}:/mnt", "--bind", f"{image.parent}:/media"]
    options = ["exec", "--containall", "--no-mount", "tmp,home", *folders, str(tree)]
    _run(["apptainer", *options, "mksquashfs", "/mnt", f"/media/{squash.name}", *_SQUASH])
    _run(["apptainer", "sif", "new", str(image)])
    add = ["apptainer", "sif", "add", str(image)]
    _run([*add, str(definition), "--datatype", "1", "--groupid", "1"])
    partition = ("--datatype", "4", "--parttype", "2", "--partfs", "1", "--partarch", "2")
    _run([*add, str(squash), *partition, "--groupid", "1"])
    squash.unlink()
    normalise_sif(image)
    text = json.dumps(packages, indent=1)
    image.with_suffix(".packages.json").write_text(text, encoding="utf-8")


def list_packages(tree: Path) -> dict[str, str]:
    """Returns "version sha256" of each of Debian's packages in the tree, by name.

    Raises:
        ValueError: the lists that the packages were taken from do not have one.
    """
    known: dict[tuple[str, str], str] = {}
    for path in (tree / "var/lib/apt/lists").glob("*_Packages"):
        for fields in _read_stanzas(path):
            known[fields["Package"], fields["Version"]] = fields["SHA256"]
    found = {}
    for fields in _read_stanzas(tree / "var/lib/dpkg/status"):
        name, version = fields["Package"], fields["Version"]
        if (name, version) not in known:
            raise ValueError(f"Debian's list has no {name} {version}, which the image holds")
        found[name] = f"{version} {known[name, version]}"
    return dict(sorted(found.items()))


def _read_stanzas(path: Path) -> list[dict[str, str]]:
    """Returns the fields of each paragraph of a file of dpkg's, without lines that go on."""
    text = path.read_text(encoding="utf-8")
    paragraphs = [re.findall(r"(?m)^(\S+): (.*)$", part) for part in text.split("\n\n")]
    return [dict(fields) for fields in paragraphs if fields]


def clean(tree: Path) -> None:
    """Removes what differs from build to build or tells where it was done."""
    for name in _EMPTIED:
        for path in (tree / name).iterdir():
            _remove(path)
    for pattern in _REMOVED:
        for path in tree.glob(pattern):
            _remove(path)
    for name in _BLANK:
        _remove(tree / name)
        (tree / name).touch()
    for path in (tree / "opt/rederive").iterdir():  # copies, with the modes of a checkout's files
        if path.is_file():
            path.chmod(0o644)
    sources = tree / "etc/apt/sources.list"
    sources.write_text(f"deb {DEBIAN} bookworm main\n", encoding="utf-8")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_labels(tree: Path, labels: dict[str, str]) -> None:
    """Replaces Apptainer's labels, which name the mirror and the date, but for a few."""
    path = tree / ".singularity.d/labels.json"
    given = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in given.items() if _LABELS.fullmatch(key)}
    text = json.dumps(kept | labels, indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")


def normalise_sif(path: Path) -> None:
    """Gives the file an id that follows from its content, and the times of all images.

    The format: https://github.com/apptainer/sif, pkg/sif/sif.go.

    Raises:
        ValueError: it is no SIF file.
    """
    with path.open("r+b") as file:
        header = bytearray(file.read(128))
        if header[32:41] != b"SIF_MAGIC":
            raise ValueError(f"{path} is no SIF file")
        _, total, offset, size, _, _ = struct.unpack_from("<6q", header, 80)
        file.seek(offset)
        table = bytearray(file.read(size))
        digest = hashlib.sha256()
        for start in range(0, total * _DESCRIPTOR_BYTES, _DESCRIPTOR_BYTES):
            if not table[start + 4]:  # unused
                continue
            content, num_bytes = struct.unpack_from("<2q", table, start + 17)
            struct.pack_into("<2q", table, start + 41, EPOCH, EPOCH)
            file.seek(content)
            while num_bytes:
                chunk = file.read(min(num_bytes, 1 << 20))
                if not chunk:
                    raise ValueError(f"{path} ends before its content")
                num_bytes -= len(chunk)
                digest.update(chunk)
        header[48:64] = uuid.UUID(bytes=digest.digest()[:16], version=4).bytes
        struct.pack_into("<2q", header, 64, EPOCH, EPOCH)
        file.seek(0)
        file.write(header)
        file.seek(offset)
        file.write(table)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True)  # noqa: S603


if __name__ == "__main__":
    tree, image, definition, labels = sys.argv[1:]
    pack(Path(tree), Path(image), Path(definition), json.loads(labels))
