"""The shell scripts: they pass shellcheck, and Apptainer that is there is left alone."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPTS = [
    "containers/install-apptainer",
    "containers/compile-bytecode",
    ".ci/install-packages",
    ".ci/run",
]
PACKAGES = ("debootstrap", "mksquashfs", "squashfuse_ll", "fuse-overlayfs", "newuidmap", "patchelf")


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_pass_shellcheck(name: str) -> None:
    command = shutil.which("shellcheck")
    if command is None:
        pytest.skip("shellcheck not found: run .ci/install-packages as root")
    done = subprocess.run([command, name], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.stdout == ""


def install(folder: Path, commands: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Returns what became of the installation where these commands, and no others, are there."""
    for name, script in commands.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
    bash = shutil.which("bash")
    assert bash
    # The system's own folders stay in the path that the script looks for packages in.
    command = [bash, str(ROOT / "containers/install-apptainer"), str(folder / "prefix")]
    env = {"PATH": str(folder), "HOME": "/root"}
    return subprocess.run(command, env=env, text=True, capture_output=True, check=False)


def test_an_apptainer_that_works_is_left_alone(tmp_path: Path) -> None:
    there = dict.fromkeys(PACKAGES, "exit 1") | {"apptainer": "exit 0", "uname": "echo x86_64"}
    done = install(tmp_path, there)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "prefix").exists()


def test_it_says_that_it_must_be_root(tmp_path: Path) -> None:
    there = dict.fromkeys(PACKAGES, "exit 1") | {"uname": "echo x86_64", "id": "echo 1000"}
    done = install(tmp_path, there)
    assert done.returncode == 1
    assert done.stderr == "install-apptainer: it must be run as root (missing: apptainer)\n"


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    done = install(tmp_path, {"uname": "echo aarch64"})
    assert done.returncode == 1
    assert done.stderr == (
        "install-apptainer: this is aarch64, and what it installs is for x86_64\n"
    )


def test_a_folder_that_images_hide_is_refused() -> None:
    there = dict.fromkeys(PACKAGES, "exit 1") | {"uname": "echo x86_64", "id": "echo 0"}
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        done = install(Path(name), there | {"apt-get": "exit 9", "grep": "exit 1"})
    assert done.returncode == 1
    assert done.stderr.startswith(f"install-apptainer: {name}/prefix: choose a folder outside ")
