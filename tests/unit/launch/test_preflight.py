"""Checks on a node, against this environment and its real lock."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

import pytest

from stages._launch.preflight import check_gpus, check_node, check_packages

ROOT = Path(__file__).parents[3]
LOCK = ROOT / "containers/cpu.lock.txt"


@pytest.fixture(autouse=True)
def _no_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leaves out the machine's own GPUs, if it has some."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))


def test_this_environment_is_that_of_its_lock() -> None:
    check_packages(LOCK)


def test_other_versions_and_missing_packages_are_counted_and_named(tmp_path: Path) -> None:
    lock = tmp_path / "cpu.lock.txt"
    names = ["numpy", "pyyaml", "jinja2", "tqdm"]
    pins = [f"{name}==0.0.1 \\\n    --hash=sha256:00" for name in names]
    lock.write_text("\n".join(["absent-package==1", *pins]), encoding="utf-8")
    with pytest.raises(ValueError, match="is not that of") as error:
        check_packages(lock)
    assert (
        f"{lock}: absent-package none instead of 1, numpy {version('numpy')} instead of 0.0.1, "
        f"pyyaml {version('pyyaml')} instead of 0.0.1 and 2 more: set it up again"
    ) in str(error.value)


def write_smi(folder: Path, body: str) -> None:
    path = folder / "programs/nvidia-smi"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


def test_gpus_that_slurm_has_given_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    check_gpus(3)
    with pytest.raises(ValueError, match="gpus_per_node is 4, and CUDA_VISIBLE_DEVICES is '0,1,2'"):
        check_gpus(4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ValueError, match="gpus_per_node is 1, and CUDA_VISIBLE_DEVICES is ''"):
        check_gpus(1)


def test_gpus_need_either_sign_of_them() -> None:
    check_gpus(0)
    with pytest.raises(ValueError, match="has neither CUDA_VISIBLE_DEVICES nor nvidia-smi"):
        check_gpus(1)


def test_driver_that_has_lost_a_gpu_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    write_smi(tmp_path, 'echo "GPU 0: NVIDIA H100 (UUID: GPU-1)"')
    check_gpus(1)
    with pytest.raises(ValueError, match="nvidia-smi finds 1 on this node: exclude the node"):
        check_gpus(2)


def test_driver_that_does_not_answer_is_quoted(tmp_path: Path) -> None:
    write_smi(tmp_path, 'echo "NVIDIA-SMI has failed: no driver" >&2; exit 9')
    with pytest.raises(ValueError, match=r"finds 0 on this node \(NVIDIA-SMI has failed: no dri"):
        check_gpus(1)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the current folder: what a node must see to run `report`."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    graph = "stages: {report: {deps: [artifacts/evaluate]}}"
    (tmp_path / "dvc.yaml").write_text(graph, encoding="utf-8")
    (tmp_path / "artifacts/evaluate").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("repo")
def test_full_scratch_is_named_with_its_bytes() -> None:
    check_node("report", {}, 0, 1)
    free = 2**60
    with pytest.raises(ValueError, match=f"bytes free, and min_scratch_bytes is {free}: name"):
        check_node("report", {}, 0, free)


def test_folder_that_the_node_does_not_see_is_named(repo: Path) -> None:
    (repo / "artifacts/evaluate").rmdir()
    with pytest.raises(ValueError, match=f"does not see {repo}/artifacts/evaluate: the repository"):
        check_node("report", {}, 0, 1)
