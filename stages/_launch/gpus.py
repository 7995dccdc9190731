"""Checks of a node's GPUs by what `nvidia-smi` says of them.

Tried on a node with one H100 (docs/log.md).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

_FIELDS = "index,uuid,name,driver_version,ecc.errors.uncorrected.volatile.total"
_TIMEOUT_S = 60  # a driver with a broken GPU may answer never
# Of a type's name as administrators give it, e.g. nvidia_h100_80gb_hbm3, a100-sxm4 or rtx3090.
_MODEL = re.compile(r"(?<![a-z0-9])[a-z]{1,3}\d{2,4}[a-z]?(?![a-z0-9])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A GPU as the driver sees it; `num_uncorrected` is None where it counts no ECC errors."""

    index: str
    uuid: str
    name: str
    driver: str
    num_uncorrected: int | None


def check_gpus(num_gpus: int, gpu_type: str | None) -> None:
    """Checks that Slurm has given that many GPUs and, if the driver is there, that they are sound.

    Args:
        num_gpus: how many there must be.
        gpu_type: their type, as Slurm has it; None: any, but all the same.

    Raises:
        ValueError: there are fewer, or one is broken, of another type or used by somebody else.
    """
    if not num_gpus:
        return
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None and len(_names(given)) < num_gpus:
        raise ValueError(
            f"gpus_per_node is {num_gpus}, and CUDA_VISIBLE_DEVICES is {given!r}: see gpu_flag and "
            f"gpu_type in the site's file"
        )
    command = shutil.which("nvidia-smi")
    if command is None and given is None:
        raise ValueError(
            f"gpus_per_node is {num_gpus}, and this node has neither CUDA_VISIBLE_DEVICES nor "
            f"nvidia-smi: see gpu_flag and partition in the site's file"
        )
    if command is None:
        return
    gpus = select(parse_gpus(_ask(command, "gpu", _FIELDS)), given)
    if len(gpus) < num_gpus:
        raise ValueError(
            f"gpus_per_node is {num_gpus}, and nvidia-smi finds {len(gpus)} on this node: exclude "
            f"the node, and report it"
        )
    check_kind(gpus, gpu_type)
    check_sound(gpus)
    check_idle(gpus, _ask(command, "compute-apps", "gpu_uuid,pid,process_name"))


def parse_gpus(text: str) -> list[Gpu]:
    """Returns the GPUs that `nvidia-smi --query-gpu=... --format=csv,noheader` has listed.

    Raises:
        ValueError: a line is not as it should be.
    """
    gpus = []
    for line in text.strip().splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) != _FIELDS.count(",") + 1:
            raise ValueError(f"nvidia-smi says {line!r}, where {_FIELDS} was asked for")
        index, uuid, name, driver, errors = words
        count = int(errors) if errors.isdecimal() else None  # [N/A] where ECC is off or unknown
        gpus.append(Gpu(index=index, uuid=uuid, name=name, driver=driver, num_uncorrected=count))
    return gpus


def select(gpus: list[Gpu], given: str | None) -> list[Gpu]:
    """Returns those of the GPUs that CUDA_VISIBLE_DEVICES names, by index or UUID; None: all."""
    if given is None:
        return gpus
    names = _names(given)
    return [gpu for gpu in gpus if gpu.index in names or gpu.uuid in names]


def check_kind(gpus: list[Gpu], gpu_type: str | None) -> None:
    """Checks that all GPUs are of one kind, that of the type if its name has a model in it.

    Raises:
        ValueError: one is of another kind.
    """
    kinds = sorted({gpu.name for gpu in gpus})
    if len(kinds) > 1:
        raise ValueError(f"the GPUs of this node are of several kinds: {', '.join(kinds)}")
    model = _MODEL.search((gpu_type or "").lower())
    if model and model[0] not in kinds[0].lower().replace(" ", ""):
        raise ValueError(
            f"gpu_type in the site's file is {gpu_type}, and this node has {kinds[0]}: exclude the "
            f"node, or change gpu_type"
        )
    drivers = sorted({gpu.driver for gpu in gpus})
    if len(drivers) > 1:
        raise ValueError(f"nvidia-smi names several drivers, {', '.join(drivers)}: report the node")


def check_sound(gpus: list[Gpu]) -> None:
    """Checks that no GPU has had an error of its memory that ECC could not correct.

    Raises:
        ValueError: one has; names it.
    """
    for gpu in gpus:
        if gpu.num_uncorrected:
            raise ValueError(
                f"GPU {gpu.index} ({gpu.uuid}) has had {gpu.num_uncorrected} uncorrected ECC "
                f"errors since its driver was loaded: exclude the node, and report it"
            )


def check_idle(gpus: list[Gpu], processes: str) -> None:
    """Checks that nobody computes on a GPU, by what `--query-compute-apps` has listed.

    Raises:
        ValueError: somebody does; names GPU and process.
    """
    names = {gpu.uuid: gpu.index for gpu in gpus}
    for line in processes.strip().splitlines():
        uuid, _, process = (word.strip() for word in line.partition(","))
        if uuid in names:
            raise ValueError(
                f"GPU {names[uuid]} ({uuid}) is used by another process ({process}): exclude the "
                f"node, and report it"
            )


def _names(given: str) -> list[str]:
    return [name.strip() for name in given.split(",") if name.strip()]


def _ask(command: str, what: str, names: str) -> str:
    """Returns what `nvidia-smi` says of the GPUs or of what runs on them."""
    call = [command, f"--query-{what}={names}", "--format=csv,noheader"]
    try:
        done = subprocess.run(  # noqa: S603
            call, text=True, capture_output=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"nvidia-smi did not answer within {_TIMEOUT_S} s: exclude the node, and report it"
        ) from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise ValueError(f"nvidia-smi fails on this node ({said}): exclude the node, and report it")
    return done.stdout
