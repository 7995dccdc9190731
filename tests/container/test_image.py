"""The CPU image, built for real: its bytes are the lock's; stages in it give the bytes of here."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from containers.wheels import sha256
from tests.image import IMAGE, ROOT, apptainer, build, find_problem, lock
from tests.repository import call, dvc, ran, would_run

pytestmark = [pytest.mark.container, pytest.mark.timeout(1500)]

SITE = """\
kind: apptainer
apptainer: apptainer
images: {images}
gpus: false
python: python
binds: []
scratch: {scratch}
environment: {{}}
"""


def test_a_build_gives_the_locks_bytes() -> None:
    """In another folder, with another umask, at another time; later tests take what it built."""
    problem = find_problem()
    if problem:
        pytest.skip(problem)
    build()
    assert (sha256(IMAGE), IMAGE.stat().st_size) == (lock()["sif_sha256"], lock()["sif_bytes"])


def test_labels_carry_the_commit_and_the_lock(image: Path) -> None:
    shown = json.loads(apptainer("inspect", "--json", "--labels", str(image)))
    assert shown["data"]["attributes"]["labels"] == {
        "org.label-schema.build-arch": "amd64",
        "org.label-schema.schema-version": "1.0",
        "org.label-schema.usage.apptainer.version": lock()["apptainer"],
        "org.opencontainers.image.title": "rederive-cpu",
        "org.opencontainers.image.revision": lock()["revision"],
        "rederive.lock.sha256": sha256(ROOT / "containers/cpu.lock.txt"),
    }
    definition = apptainer("inspect", "--deffile", str(image))
    assert definition.strip() == (ROOT / "containers/cpu.def").read_text(encoding="utf-8").strip()


def test_the_image_holds_the_locks_packages(image: Path) -> None:
    code = (
        "import json, importlib.metadata as m\n"
        "print(json.dumps({d.name: d.version for d in m.distributions()}))"
    )
    found = json.loads(apptainer("exec", "--containall", str(image), "python", "-c", code))
    text = (ROOT / "containers/cpu.lock.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"(?m)^(\S+)==(\S+)", text))
    versions = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found.items()}
    assert versions.pop("pip")  # Debian's, which installed them
    assert versions == pins


def test_nothing_of_the_building_machine_is_inside(image: Path) -> None:
    """Neither its folders nor where its packages came from, in any file but what is compiled."""
    certificates = "/etc/ssl/certs/ca-certificates.crt"  # Debian's, which images have as well
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], text=True, capture_output=True, check=True
    ).stdout
    sources = f"{listed} {os.environ.get('DEBIAN_MIRROR', '')}"
    names = {str(ROOT), str(Path(sys.prefix).resolve()), "/images/wheels"}
    names |= set(re.findall(r"https?://([^/\s':@]+)", sources)) - {"pypi.org", "deb.debian.org"}
    names |= set(re.findall(r"(?:file://|[' ])(/[^\s']+)", sources)) - {certificates}
    if len(socket.gethostname()) > 6:  # a shorter one may be a word
        names.add(socket.gethostname())
    wanted = [argument for name in sorted(names) for argument in ("-e", name)]
    places = ["/etc", "/opt", "/root", "/usr", "/var", "/.singularity.d"]
    options = ["-rlIF", "--exclude=*.so*", "--exclude=*.pyc", "--exclude=*.a"]
    command = ["exec", "--containall", str(image), "sh", "-c", 'grep "$@" || true', "grep"]
    assert apptainer(*command, *options, *wanted, *places) == ""
    quiet = "cat /etc/machine-id /run/* /var/log/* 2>/dev/null; find / -xdev -name direct_url.json"
    assert apptainer("exec", "--containall", str(image), "sh", "-c", quiet) == ""


@pytest.fixture
def clone(recipe: Path, tmp_path: Path) -> Path:
    """Returns a copy of the repository of the recipe that was run here."""
    return Path(shutil.copytree(recipe, tmp_path / "clone", symlinks=True))


def add_site(clone: Path, images: Path) -> None:
    """Adds a site that runs stages in the folder's images, and the lock that vouches for them."""
    path = clone / "slurm/sites/image.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = SITE.format(images=images, scratch=clone.parent / "scratch")
    path.write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "containers/cpu.lock.yaml", clone / "containers")


def test_stages_in_the_image_give_the_bytes_of_here(
    image: Path, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_site(clone, image.parent)
    lock = (clone / "dvc.lock").read_bytes()
    monkeypatch.setenv("R1_SITE", "image")
    # All of them: tests/slurm/test_image.py.
    shown = dvc(clone, "repro", "--force", "--no-run-cache", "--single-item", "generate", "sft")
    monkeypatch.delenv("R1_SITE")
    assert ran(shown) == ["generate", "sft"]
    assert (clone / "dvc.lock").read_bytes() == lock
    for name in ("generate", "sft"):
        manifest = json.loads((clone / f"runs/{name}.json").read_text(encoding="utf-8"))
        assert manifest["packages"]["trl"] == "1.14.2"
    assert would_run(clone) == []


def test_a_corrupted_image_is_refused(
    image: Path, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrupted = tmp_path / "images/cpu.sif"
    corrupted.parent.mkdir()
    shutil.copyfile(image, corrupted)
    with corrupted.open("r+b") as file:
        file.seek(corrupted.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    add_site(clone, corrupted.parent)
    monkeypatch.setenv("R1_SITE", "image")
    before = sorted(path.name for path in (clone / "artifacts/filter").iterdir())
    done = call(clone, sys.executable, "-m", "stages", "run", "filter")
    corrupted.unlink()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"rederive: filter: the image {corrupted} has the sha256 ")
    assert sorted(path.name for path in (clone / "artifacts/filter").iterdir()) == before
