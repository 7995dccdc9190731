"""Which bits a computation gives: instruction sets, threads and kernels, set and then looked at.

What is set before a library is imported may not reach it, so `observe` asks the libraries.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any, Literal

CpuIsa = Literal["native", "avx2", "portable"]

# Sums round differently in each instruction set, and MKL has kernels per vendor (ADR 0005).
LIMITS: dict[str, dict[str, str]] = {
    # Whatever is fastest on this CPU.
    "native": {},
    # The same on all AMD CPUs with AVX2, and on all of Intel's.
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"},
    # The same on both.
    "portable": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "COMPATIBLE",
    },
}
# With eight workspaces of 4 MiB cuBLAS sums in one order, also on several streams at once (its
# documentation, "Results reproducibility").
CUBLAS_WORKSPACE, CUBLAS_WORKSPACE_SIZES = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
_NAMES = frozenset(name for limits in LIMITS.values() for name in limits)
# As mkl_types.h numbers them; MKL itself answers "auto" to "AVX2" on a CPU that is not Intel's.
_MKL_BRANCHES = {1: "off", 2: "auto", 3: "compatible", 10: "avx2"}
_MKL_EXPECTED = {"native": ("off",), "avx2": ("avx2", "auto"), "portable": ("compatible",)}


def limit_cpu(isa: CpuIsa) -> None:
    """Sets what ATen, oneDNN and MKL read when they are loaded, and unsets what would mix in."""
    for name in _NAMES:
        os.environ.pop(name, None)
    os.environ.update(LIMITS[isa])


def observe() -> dict[str, Any]:
    """Returns what this process really computes with, as the libraries say.

    oneDNN cannot be asked: that it is limited is tested, and its variable is among `environment`.
    """
    import torch  # noqa: PLC0415 - takes seconds; the contract itself does without it

    found = {
        "num_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkl_branch": _read_mkl_branch(Path(torch.__file__).parent),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "environment": {name: os.environ[name] for name in _NAMES if name in os.environ},
    }
    if torch.cuda.is_available():
        found["gpu"] = {
            "name": torch.cuda.get_device_name(),
            "capability": "{}.{}".format(*torch.cuda.get_device_capability()),
            "cuda": torch.version.cuda,
            "allow_tf32": torch.backends.cuda.matmul.allow_tf32,
            "cublas_workspace": os.environ.get(CUBLAS_WORKSPACE),
        }
    return found


def check_observed(observed: dict[str, Any], num_threads: int, isa: CpuIsa) -> None:
    """Checks that what was set has arrived.

    Raises:
        ValueError: it has not; names the setting, what was set and what was found.
    """
    expected: dict[str, Any] = {"num_threads": (num_threads,), "environment": (LIMITS[isa],)}
    if isa != "native":
        expected["cpu_capability"] = ("AVX2",)
    if observed["mkl_branch"] is not None:  # a build without MKL
        expected["mkl_branch"] = _MKL_EXPECTED[isa]
    for name, allowed in expected.items():
        if observed[name] not in allowed:
            cause = "this CPU cannot do it"
            remedy = "cpu_isa native asks for nothing"
            if name == "num_threads":
                cause = "there are fewer CPUs, or another limit on threads"
                remedy = "lower num_threads, or ask for more CPUs"
            raise ValueError(
                f"with cpu_isa {isa} and num_threads {num_threads}, {name} must be "
                f"{' or '.join(map(str, allowed))} where the computing is done, not "
                f"{observed[name]}: {cause}, or a library was loaded before it was set; {remedy}"
            )


def _read_mkl_branch(torch: Path) -> str | None:
    """Returns which of its branches MKL takes, or None if torch was built without it."""
    library = torch / "lib" / "libtorch_cpu.so"
    try:
        branch = ctypes.CDLL(str(library)).mkl_serv_cbwr_get(-1)  # MKL_CBWR_ALL
    except (OSError, AttributeError):
        return None
    return _MKL_BRANCHES.get(branch, str(branch))
