"""What builds images cannot reach the machine's /tmp, /var/tmp and /dev, nor leave a process."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from containers import sandbox
from tests.image import ROOT, find_problem

pytestmark = pytest.mark.container


@pytest.fixture(autouse=True)
def _needs_root() -> None:
    problem = find_problem()
    if problem:
        pytest.skip(problem)


def run(script: str) -> int:
    return sandbox.run(["sh", "-c", script], environment={"PATH": os.environ["PATH"]}, cwd=ROOT)


@pytest.mark.parametrize("folder", ["/tmp", "/var/tmp", "/dev/shm"])  # noqa: S108 - that is meant
def test_what_is_removed_there_stays_on_the_machine(folder: str) -> None:
    """What a careless %post did once, to this very machine's like."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix="rederive-") as kept:
        assert run(f"touch {folder}/mine; [ ! -e {kept.name} ] && rm -rf {folder}/*") == 0
        assert Path(kept.name).exists()
    assert not Path(folder, "mine").exists()


def test_devices_that_programs_expect_are_there() -> None:
    script = "echo x >/dev/null && head -c 1 /dev/urandom >/dev/null && [ -c /dev/fuse ]"
    assert run(f"{script} && [ ! -e /dev/sda ] && echo x | cat /dev/stdin >/dev/fd/1") == 0


def test_the_command_is_root_with_every_capability() -> None:
    assert run("[ $(id -u) = 0 ] && grep -q '^CapEff:.*ffffffff$' /proc/self/status") == 0


def test_the_status_is_the_commands() -> None:
    assert run("exit 7") == 7


def test_nothing_outlives_the_command(tmp_path: Path) -> None:
    alive = ROOT / f"images/{tmp_path.name}.alive"
    alive.parent.mkdir(exist_ok=True)
    assert run(f"(sleep 1; touch {alive}) &") == 0
    time.sleep(1.5)
    assert not alive.exists()


def test_umask_is_the_usual_one() -> None:
    before = os.umask(0o077)
    try:
        assert run("[ $(umask) = 0022 ]") == 0
    finally:
        os.umask(before)
