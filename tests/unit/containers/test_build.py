"""Locks of images: what they hold, and what is said of an image that is not what they say."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from containers import build, sandbox
from containers.wheels import platforms
from tests.git import git

LOCK: dict[str, Any] = {
    "image": "cpu",
    "sif_sha256": "a" * 64,
    "inputs": {"containers/cpu.def": "1"},
    "apptainer": "1.4.5",
    "debian": {"bash": "5.2 1", "apt": "2 2"},
    "wheels": {"torch-2.whl": "3"},
}


def differ(**changes: Any) -> str:
    found = deepcopy(LOCK) | {"sif_sha256": "b" * 64} | changes
    return build.explain(LOCK, found)


def test_another_apptainer_is_named() -> None:
    text = differ(apptainer="1.5.0")
    assert text.startswith(
        f"images/cpu.sif has the sha256 {'b' * 64}, and containers/cpu.lock.yaml says {'a' * 64}: "
        f"Apptainer is 1.5.0 here and was 1.4.5"
    )


def test_other_packages_of_debian_are_named_with_the_remedy() -> None:
    text = differ(debian={"bash": "5.3 9", "vim": "9 4"})
    assert "(apt 2 -> none; bash 5.2 -> 5.3; vim none -> 9)" in text
    assert "set DEBIAN_MIRROR" in text


def test_other_files_of_packages_are_named() -> None:
    assert "were found (torch-2-1.whl, torch-2.whl)" in differ(wheels={"torch-2-1.whl": "3"})


def test_what_varies_in_the_build_is_a_fault_of_it() -> None:
    assert "a fault of containers/" in differ()


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the current folder: a repository with what an image is made of."""
    git(tmp_path, "init", "-q")
    folder = tmp_path / "containers"
    folder.mkdir()
    for name in ("cpu.def", "cpu.lock.txt", "compile-bytecode", "pack.py", "versions.py"):
        (folder / name).write_text(name, encoding="utf-8")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "inputs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def head(repo: Path) -> str:
    return git(repo, "rev-parse", "HEAD").strip()


def test_inputs_are_what_the_bytes_depend_on(repo: Path) -> None:
    assert repo == Path.cwd()
    inputs = build.hash_inputs("cpu")
    assert list(inputs) == [
        "containers/compile-bytecode",
        "containers/cpu.def",
        "containers/cpu.lock.txt",
        "containers/pack.py",
        "containers/versions.py",
    ]
    assert inputs["containers/cpu.def"] == hashlib.sha256(b"cpu.def").hexdigest()


@pytest.mark.usefixtures("repo")
def test_an_image_without_a_definition_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'gpu' needs containers/gpu\.def, .*; known: cpu"):
        build.hash_inputs("gpu")


def test_the_revision_is_the_inputs_last_commit(repo: Path) -> None:
    first = head(repo)
    (repo / "README.md").touch()
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "something else")
    assert build.find_revision(build.hash_inputs("cpu"), None) == first


def test_the_revision_stays_while_the_inputs_do(repo: Path) -> None:
    assert head(repo)
    inputs = build.hash_inputs("cpu")
    recorded = {"inputs": inputs, "revision": "of a history that is gone"}
    assert build.find_revision(inputs, recorded) == "of a history that is gone"


def test_inputs_that_are_not_committed_are_refused(repo: Path) -> None:
    (repo / "containers/cpu.def").write_text("changed", encoding="utf-8")
    with pytest.raises(ValueError, match=r"not committed: containers/cpu\.def$"):
        build.find_revision(build.hash_inputs("cpu"), None)


@pytest.mark.usefixtures("repo")
def test_a_check_needs_a_lock() -> None:
    with pytest.raises(ValueError, match=r"there is no containers/cpu\.lock\.yaml: `python3 -m"):
        build.check("cpu")


def test_a_check_of_other_inputs_builds_nothing(repo: Path) -> None:
    lock = "image: cpu\ninputs: {containers/cpu.def: '1'}\n"
    (repo / "containers/cpu.lock.yaml").write_text(lock, encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"compile-bytecode, containers/cpu\.def, .* changed since"
    ):
        build.check("cpu")


def test_a_definition_with_faults_builds_nothing(repo: Path) -> None:
    definition = repo / "containers/cpu.def"
    definition.write_text("Bootstrap: debootstrap\n\n%post\n  rm -rf /tmp/*\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"containers/cpu\.def: line 4: 'rm -rf /tmp/\*' may"):
        build.build("cpu", "0" * 40, build.hash_inputs("cpu"))
    assert not (repo / "images").exists()


def test_a_repository_that_the_sandbox_hides_is_refused() -> None:
    with pytest.raises(ValueError, match="lies below /tmp, which the sandbox"):
        sandbox.check_visible(Path("/tmp/repository"))  # noqa: S108 - nothing is there
    sandbox.check_visible(Path("/opt/repository"))


def test_wheels_are_chosen_for_debian_and_not_for_this_machine() -> None:
    names = platforms()
    assert names[:2] == ["manylinux_2_36_x86_64", "manylinux_2_35_x86_64"]
    assert names[19:21] == ["manylinux_2_17_x86_64", "manylinux2014_x86_64"]
    assert names[-3:] == ["manylinux_2_5_x86_64", "manylinux1_x86_64", "linux_x86_64"]
