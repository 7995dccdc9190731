"""What each recipe's stages need of a cluster: slurm/resources.yaml, read strictly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages._contract import params
from stages._contract.params import STAGES, read_strictly, stage_names
from stages._contract.run import PARAMS
from stages._launch.server import needs_server

if TYPE_CHECKING:
    from stages._contract.places import Cell

RESOURCES = Path("slurm/resources.yaml")
CONTROLLER = "controller"  # no stage: the job that runs `dvc repro`
SERVER = "server"  # no stage: vLLM, from which a stage samples
_TIME = re.compile(r"(?:(\d+)-)?(\d{1,2}):([0-5]\d):([0-5]\d)")
_MEMORY = re.compile(r"0|[1-9]\d*[MGT]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """A stage's needs; the names are those of sbatch's options, `array` is its number of tasks."""

    array: int
    nodes: int
    gpus_per_node: int
    cpus_per_task: int
    mem: str
    time: str

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        for key, least, most in (
            ("array", 1, 1000),  # MaxArraySize, unless an administrator has changed it
            ("nodes", 1, 4096),
            ("gpus_per_node", 0, 64),
            ("cpus_per_task", 1, 4096),
        ):
            if not least <= getattr(self, key) <= most:
                raise ValueError(f"{key} must be from {least} to {most}, not {getattr(self, key)}")
        if not _MEMORY.fullmatch(self.mem):
            raise ValueError(
                f"mem must be a number with M, G or T per node, or 0 for all, not {self.mem!r}"
            )
        if not _TIME.fullmatch(self.time) or not self.time_s:
            raise ValueError(f"time must be HH:MM:SS or DAYS-HH:MM:SS above 0, not {self.time!r}")

    @property
    def time_s(self) -> int:
        """Returns the time limit in seconds."""
        match = _TIME.fullmatch(self.time)
        assert match, "checked above"
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def load_resources(stage: str, cell: Cell | None = None) -> Resources:
    """Returns the stage's needs in the recipe of params.yaml, which fit the cell's parameters.

    A track's sections need what the stage does in the recipe.

    Raises:
        ValueError: a key is missing, unknown or out of bounds, in whichever section, or the needs
            do not fit; names the file and the key.
    """
    recipe = params.load(PARAMS, "report").recipe
    kind = dict[str, dict[str, Resources]]
    recipes: dict[str, dict[str, Resources]] = read_strictly(RESOURCES, kind, "resources")
    known = [*stage_names(), CONTROLLER, SERVER]
    for name in (f"{name}.{key}" for name, found in recipes.items() for key in found):
        if name.rpartition(".")[2] not in known:
            raise ValueError(f"{RESOURCES}: {name} is no stage: stages are {', '.join(known)}")
    if recipe not in recipes:
        raise ValueError(
            f"{RESOURCES}: {recipe!r}, the report.recipe of {PARAMS}, is missing: it has "
            f"{', '.join(recipes) or 'none'}; give it a section"
        )
    if stage not in recipes[recipe]:
        raise ValueError(
            f"{RESOURCES}: {recipe}.{stage} is missing: give it the needs of another stage"
        )
    needs = recipes[recipe][stage]
    values = params.load_cell(PARAMS, stage, cell or {}) if stage in stage_names() else None
    try:
        _check_fit(stage, needs, getattr(values, "num_processes", None))
    except ValueError as error:
        raise ValueError(f"{RESOURCES}: {recipe}.{stage}: {error}") from error
    return needs


def load_server(stage: str, needs: Resources, cell: Cell | None = None) -> Resources | None:
    """Returns what the server needs from which the stage samples, or None if it has none.

    Args:
        stage: its name.
        needs: what the stage itself needs.
        cell: its cell; None: that of the core graph.

    Raises:
        ValueError: the server's needs are missing, or do not fit; names the file and the key.
    """
    values = params.load_cell(PARAMS, stage, cell or {})
    if not needs_server(values):
        return None
    found = load_resources(SERVER)
    num_gpus, size = found.nodes * found.gpus_per_node, values.vllm_tensor_parallel_size
    if num_gpus and num_gpus != size:
        raise ValueError(
            f"{RESOURCES}: {SERVER} has {num_gpus} GPUs, and {stage}.vllm_tensor_parallel_size of "
            f"{PARAMS} is {size}: TRL's trainer knows one server, whose GPUs all hold a part of "
            f"the model: make them equal"
        )
    if found.time_s < needs.time_s:
        raise ValueError(
            f"{RESOURCES}: time of {SERVER} is {found.time}, and {stage} has {needs.time}: the "
            f"stage would lose its server: make them equal"
        )
    return found


def _check_fit(stage: str, needs: Resources, num_processes: int | None) -> None:
    """Checks that what the stage computes can be spread as the needs say.

    Raises:
        ValueError: it cannot; names the key.
    """
    if needs.array > 1:
        if needs.nodes > 1:
            raise ValueError(f"nodes is {needs.nodes}, and each task of an array is on one node")
        if not _has_parts(stage):
            raise ValueError(f"array is {needs.array}, and {stage} does not work in parts: set 1")
    if num_processes is None:
        if stage == SERVER and needs.nodes > 1:
            raise ValueError(
                f"nodes is {needs.nodes}, and TRL's trainer knows one server "
                f"(vllm_server_base_url), which TRL spreads over several nodes by Ray only: set 1"
            )
        if needs.nodes > 1:
            raise ValueError(f"nodes is {needs.nodes}, and {stage} computes on one: set 1")
        return
    if num_processes % needs.nodes:
        raise ValueError(
            f"nodes is {needs.nodes}, which does not divide {stage}.num_processes of {PARAMS}, "
            f"{num_processes}: each node has as many processes"
        )
    num_gpus = needs.nodes * needs.gpus_per_node
    if num_gpus and num_gpus != num_processes:
        raise ValueError(
            f"{needs.nodes} nodes with {needs.gpus_per_node} GPUs each have {num_gpus}, and "
            f"{stage}.num_processes of {PARAMS} is {num_processes}: each process has one GPU"
        )


def _has_parts(stage: str) -> bool:
    """Returns whether the stage's `fill` does a part of its work; imports nothing for that."""
    path = STAGES / stage / "stage.py"
    return path.is_file() and "\ndef fill(" in path.read_text(encoding="utf-8")
