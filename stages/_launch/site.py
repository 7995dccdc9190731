"""Sites: slurm/sites/NAME.yaml, read as strictly as params.yaml.

A site says where stages run and nothing about what they compute: it is in no hash.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from stages._contract.params import read_strictly

SITES = Path("slurm/sites")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BIND = re.compile(r"/[^:,]*(:/[^:,]*(:r[ow])?)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalSite:
    """Stages run in this process's environment."""

    kind: Literal["local"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ApptainerSite:
    """Stages run on this machine, in the images of a folder."""

    kind: Literal["apptainer"]
    apptainer: str
    images: str
    gpus: bool
    python: str
    binds: list[str]
    scratch: str
    environment: dict[str, str]

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        _check_text(self)
        _check_absolute("images", self.images)
        _check_absolute("scratch", self.scratch)
        _check_binds(self.binds)
        _check_variables("environment", list(self.environment))


@dataclass(frozen=True, kw_only=True, slots=True)
class SlurmSite:
    """Stages run as jobs of a Slurm cluster whose nodes see the repository; None: not given."""

    kind: Literal["slurm"]
    partition: str | None
    account: str | None
    qos: str | None
    gpu_flag: Literal["gres", "gpus_per_node", "none"]
    gpu_type: str | None
    options: list[str]
    job_name_prefix: str
    setup: list[str]
    modules: list[str]
    environment: dict[str, str]
    pass_environment: list[str]
    apptainer: str
    images: str | None
    binds: list[str]
    python: str | None
    work_dir: str | None
    scratch: str | None
    min_scratch_bytes: int
    staging: str | None
    staging_max_age_days: int
    collective_timeout_s: float
    poll_s: float
    signal_before_end_s: int
    max_requeues: int

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        _check_text(self)
        for key in ("images", "python", "work_dir", "scratch", "staging"):
            if getattr(self, key) is not None and not (key == "python" and self.images):
                _check_absolute(key, getattr(self, key))
        if self.images and (self.python is None or self.scratch is None):
            raise ValueError(
                "images needs python, the interpreter's name inside, and scratch, where /tmp of "
                "an image lies: set both, or images to null"
            )
        _check_binds(self.binds)
        _check_variables("environment", list(self.environment))
        _check_variables("pass_environment", self.pass_environment)
        for option in self.options:
            if not option.startswith("-"):
                raise ValueError(f"options: {option!r} must begin with -, e.g. --constraint=h100")
        if not re.fullmatch(r"[A-Za-z0-9._-]*", self.job_name_prefix):
            raise ValueError(
                f"job_name_prefix may hold letters, digits, '.', '_' and '-', not "
                f"{self.job_name_prefix!r}"
            )
        if not 0 < self.poll_s <= 600:  # noqa: PLR2004 - ten minutes without news are a fault
            raise ValueError(f"poll_s must be above 0 and at most 600, not {self.poll_s}")
        for key in (
            "min_scratch_bytes",
            "staging_max_age_days",
            "collective_timeout_s",
            "signal_before_end_s",
            "max_requeues",
        ):
            if getattr(self, key) < 0:
                raise ValueError(f"{key} must be >= 0, not {getattr(self, key)}")


Site = LocalSite | ApptainerSite | SlurmSite


def load_site(name: str) -> Site:
    """Returns the site that slurm/sites/NAME.yaml describes, this place where it says null.

    Raises:
        ValueError: there is no such file, or a key is unknown, missing or out of bounds.
    """
    path = SITES / f"{name}.yaml"
    if not _NAME.fullmatch(name) or not path.is_file():
        known = ", ".join(sorted(found.stem for found in SITES.glob("*.yaml")))
        raise ValueError(
            f"R1_SITE is {name!r}, and there is no {SITES}/{name}.yaml: choose one of "
            f"{known or 'none'}, or copy {SITES}/example.yaml (slurm/README.md)"
        )
    site: Site = read_strictly(path, Site, "site")
    if isinstance(site, SlurmSite):
        return replace(
            site, python=site.python or sys.executable, work_dir=site.work_dir or str(Path.cwd())
        )
    return site


def _check_text(section: Any) -> None:
    """Checks that no text of the section can end a line of a script."""
    for field in fields(section):
        value = getattr(section, field.name)
        texts = value if isinstance(value, list) else [value]
        if isinstance(value, dict):
            texts = [*value.keys(), *value.values()]
        for text in texts:
            if isinstance(text, str) and _CONTROL.search(text):
                raise ValueError(
                    f"{field.name} holds a control character in {text!r}: write it without line "
                    f"breaks and tabs"
                )
            if text == "":
                _check_empty(field.name)


def _check_empty(key: str) -> None:
    if key not in {"job_name_prefix", "environment"}:
        raise ValueError(f"{key} holds an empty text: set null, or leave the entry out")


def _check_absolute(key: str, path: str) -> None:
    if not path.startswith("/"):
        raise ValueError(f"{key} must be an absolute path, not {path!r}")


def _check_binds(binds: list[str]) -> None:
    for bind in binds:
        if not _BIND.fullmatch(bind):
            raise ValueError(
                f"binds: {bind!r} must be /source, /source:/target or /source:/target:ro, without "
                f"commas: Apptainer splits there"
            )


def _check_variables(key: str, names: list[str]) -> None:
    for name in names:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{key}: {name!r} is no name of an environment variable")
