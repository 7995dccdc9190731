"""Checks on a node, against this environment and its real lock."""

from __future__ import annotations

import shutil
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from stages._launch.preflight import Demands, check_clock, check_node, check_packages, check_skew

pytestmark = pytest.mark.usefixtures("no_gpus")

ROOT = Path(__file__).parents[3]
LOCK = ROOT / "containers/cpu.lock.txt"


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
    check_node("report", {}, Demands(min_scratch_bytes=1))
    free = 2**60
    with pytest.raises(ValueError, match=f"bytes free, and min_scratch_bytes is {free}: name"):
        check_node("report", {}, Demands(min_scratch_bytes=free))


def test_folder_that_the_node_does_not_see_is_named(repo: Path) -> None:
    (repo / "artifacts/evaluate").rmdir()
    with pytest.raises(ValueError, match=f"does not see {repo}/artifacts/evaluate: the repository"):
        check_node("report", {}, Demands())


@pytest.mark.usefixtures("repo")
def test_node_is_named_where_slurm_says_which_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "node7")
    with pytest.raises(ValueError, match=r" \(node node7\)$"):
        check_node("report", {}, Demands(min_scratch_bytes=2**60))


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file", encoding="utf-8")
    with pytest.raises(ValueError, match=f"cannot write into {tmp_path}/work .File exists.: see"):
        check_clock(tmp_path / "work")


def test_clock_before_that_of_the_submission_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_clock(tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []
    monkeypatch.setenv("R1_SUBMITTED", str(time.time() + 3))
    check_clock(tmp_path)
    monkeypatch.setenv("R1_SUBMITTED", str(time.time() - 7200))  # it has waited in the queue
    check_clock(tmp_path)
    monkeypatch.setenv("R1_SUBMITTED", str(time.time() + 90))
    with pytest.raises(ValueError, match="is 90 s behind that of the machine that submitted this"):
        check_clock(tmp_path)


def test_clock_of_the_filesystem_may_differ_by_seconds() -> None:
    check_skew(-0.5, 0.5, "it")
    check_skew(5, 5.5, "it")
    check_skew(-5.5, -5, "it")
    with pytest.raises(ValueError, match="clock of this node is 6 s behind that of it, and DVC"):
        check_skew(5.9, 6.2, "it")
    with pytest.raises(ValueError, match="clock of this node is 60 s ahead of that of it, and DVC"):
        check_skew(-61, -60, "it")
