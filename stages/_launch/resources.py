"""What a stage needs of a cluster: slurm/resources.yaml, read as strictly as params.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from stages._contract.params import stage_names
from stages._launch.site import read_strictly

RESOURCES = Path("slurm/resources.yaml")
_TIME = re.compile(r"(?:(\d+)-)?(\d{1,2}):([0-5]\d):([0-5]\d)")
_MEMORY = re.compile(r"0|[1-9]\d*[MGT]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """A stage's needs; the names are those of sbatch's options."""

    nodes: int
    gpus_per_node: int
    cpus_per_task: int
    mem: str
    time: str

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        for key, least, most in (
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


def load_resources(stage: str) -> Resources:
    """Returns the stage's needs. Raises ValueError naming file and key, also of other stages."""
    needs: dict[str, Resources] = read_strictly(RESOURCES, dict[str, Resources], "resources")
    for name in needs:
        if name not in stage_names():
            raise ValueError(
                f"{RESOURCES}: {name!r} is no stage: stages are {', '.join(stage_names())}"
            )
    if stage not in needs:
        raise ValueError(f"{RESOURCES}: {stage!r} is missing: give it the section of another stage")
    return needs[stage]
