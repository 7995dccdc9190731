"""The limits on instruction sets against emulated CPUs of both vendors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
QEMU = shutil.which("qemu-x86_64")
INTEL, AMD = "Haswell", "EPYC-Rome"  # both have AVX2, and no AVX-512

pytestmark = [
    pytest.mark.emulation,
    pytest.mark.skipif(QEMU is None, reason="no qemu-x86_64: Debian's package qemu-user has it"),
]


@cache
def compute(isa: str, cpu: str | None) -> dict[str, Any]:
    """Returns what arithmetic.py says of this CPU (None) or an emulated one."""
    python = str(Path(sys.executable).resolve())
    emulator = [str(QEMU), "-cpu", cpu] if cpu else []
    command = [*emulator, python, "-m", "tests.emulation.arithmetic", isa]
    env = {"PYTHONPATH": ":".join([str(ROOT), *filter(None, sys.path)]), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("cpu", [INTEL, AMD])
def test_portable_is_the_same_on_all(cpu: str) -> None:
    assert compute("portable", cpu) == compute("portable", None)
    assert compute("portable", cpu)["mkl_branch"] == "compatible"


def test_avx2_is_the_same_on_this_vendor_s_cpus() -> None:
    vendor = "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    assert compute("avx2", AMD if vendor else INTEL) == compute("avx2", None)


def test_avx2_differs_between_vendors_in_mkl_alone() -> None:
    """Why `portable` exists; and vLLM's own products do not need it."""
    intel, amd = (compute("avx2", cpu) for cpu in (INTEL, AMD))
    assert (intel["mkl_branch"], amd["mkl_branch"]) == ("avx2", "auto")
    different = {n for n, digest in intel["digests"].items() if amd["digests"][n] != digest}
    assert different
    assert not {name for name in different if name.startswith("vLLM")}
