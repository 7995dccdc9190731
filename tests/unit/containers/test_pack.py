"""What a build leaves behind is removed, and what names the place or the time is replaced."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from containers.pack import EPOCH, clean, list_packages, normalise_sif, write_labels

STATUS = "Package: bash\nVersion: 5.2\nDescription: a shell\n x\n\nPackage: apt\nVersion: 2.6\n"
PACKAGES = """\
Package: apt
Version: 2.6
SHA256: aaaa

Package: bash
Version: 5.1
SHA256: bbbb

Package: bash
Version: 5.2
SHA256: cccc
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Returns a folder as `apptainer build --sandbox` leaves one."""
    files = {
        "etc/hostname": "builder",
        "etc/resolv.conf": "nameserver 10.0.0.1",
        "etc/machine-id": "0123",
        "etc/passwd-": "old",
        "etc/passwd": "root",
        "etc/apt/sources.list": "deb http://mirror.example/debian bookworm main",
        "run/lock/x": "",
        "var/cache/ldconfig/aux-cache": "x",
        "var/log/dpkg.log": "2026-01-01",
        "var/lib/apt/lists/mirror_Packages": PACKAGES,
        "var/lib/dpkg/status": STATUS,
        "var/lib/dpkg/status-old": "",
        "root/.cache/x": "",
        "root/.profile": "",
        "tmp/x": "",
        "opt/rederive/lock.txt": "",
        "opt/rederive/venv/x": "",
        ".singularity.d/labels.json": json.dumps(
            {
                "org.label-schema.build-arch": "amd64",
                "org.label-schema.build-date": "Wednesday",
                "org.label-schema.usage.apptainer.version": "1.4.5",
                "org.label-schema.usage.singularity.deffile.mirrorurl": "http://mirror.example",
            }
        ),
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
    return tmp_path


def list_files(tree: Path) -> set[str]:
    return {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}


def test_what_differs_from_build_to_build_is_removed(tree: Path) -> None:
    before = list_files(tree)
    clean(tree)
    assert list_files(tree) - before == {"etc/hosts"}
    assert before - list_files(tree) == {
        "etc/passwd-",
        "run/lock/x",
        "var/cache/ldconfig/aux-cache",
        "var/log/dpkg.log",
        "var/lib/apt/lists/mirror_Packages",
        "var/lib/dpkg/status-old",
        "root/.cache/x",
    }
    for name in ("hostname", "hosts", "machine-id", "resolv.conf"):
        assert (tree / "etc" / name).read_bytes() == b""
    sources = (tree / "etc/apt/sources.list").read_text(encoding="utf-8")
    assert sources == "deb http://deb.debian.org/debian bookworm main\n"
    assert (tree / "opt/rederive/lock.txt").stat().st_mode & 0o777 == 0o644


def test_a_link_is_removed_and_not_what_it_names(tree: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("mine", encoding="utf-8")
    (tree / "var/log/link").symlink_to(kept)
    (tree / "etc/resolv.conf").unlink()
    (tree / "etc/resolv.conf").symlink_to(kept)
    clean(tree)
    assert kept.read_text(encoding="utf-8") == "mine"
    assert not (tree / "etc/resolv.conf").is_symlink()


def test_labels_name_no_mirror_and_no_date(tree: Path) -> None:
    write_labels(tree, {"b": "2", "a": "1"})
    assert json.loads((tree / ".singularity.d/labels.json").read_text(encoding="utf-8")) == {
        "a": "1",
        "b": "2",
        "org.label-schema.build-arch": "amd64",
        "org.label-schema.usage.apptainer.version": "1.4.5",
    }


def test_packages_have_the_digests_of_debians_list(tree: Path) -> None:
    assert list_packages(tree) == {
        "apt": "2.6 aaaa",
        "bash": "5.2 cccc",
    }


def test_a_package_from_elsewhere_is_refused(tree: Path) -> None:
    status = tree / "var/lib/dpkg/status"
    status.write_text(STATUS.replace("2.6", "2.6+own"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"Debian's list has no apt 2\.6\+own"):
        list_packages(tree)


def write_sif(path: Path, *, uuid: bytes, times: int, content: bytes) -> None:
    """Writes a file with the format's header, a used descriptor and an unused one."""
    header = bytearray(128)
    header[32:41] = b"SIF_MAGIC"
    header[48:64] = uuid
    struct.pack_into("<2q", header, 64, times, times)
    start = 128 + 2 * 585
    struct.pack_into("<6q", header, 80, 1, 2, 128, 2 * 585, start, len(content))
    used, unused = bytearray(585), bytearray(585)
    used[4] = 1
    struct.pack_into("<3q", used, 17, start, len(content), len(content))
    struct.pack_into("<2q", used, 41, times, times)
    path.write_bytes(bytes(header) + bytes(used) + bytes(unused) + content)


def test_a_sifs_id_and_times_follow_from_its_content(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    write_sif(one, uuid=b"1" * 16, times=1, content=b"same")
    write_sif(two, uuid=b"2" * 16, times=2, content=b"same")
    write_sif(other, uuid=b"1" * 16, times=1, content=b"else")
    for path in (one, two, other):
        normalise_sif(path)
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes().endswith(b"same")
    assert one.read_bytes()[48:64] != other.read_bytes()[48:64]
    assert struct.unpack_from("<2q", one.read_bytes(), 64) == (EPOCH, EPOCH)
    assert struct.unpack_from("<2q", one.read_bytes(), 128 + 41) == (EPOCH, EPOCH)


def test_a_file_that_is_no_sif_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"#" * 200)
    with pytest.raises(ValueError, match="no SIF file"):
        normalise_sif(path)


def test_a_sif_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_sif(path, uuid=b"1" * 16, times=1, content=b"content")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="ends before its content"):
        normalise_sif(path)
