"""Where the trackers' packages are: in an environment of their own, or with those of stages."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

VENV, LOCK = Path(".venv-trackers"), Path("containers/trackers.lock.txt")
# The package that each tracker's figures are sent with.
PACKAGES = {"tensorboard": "tensorboardX", "trackio": "trackio", "wandb": "wandb"}


def find_python(trackers: Sequence[str]) -> str:
    """Returns the interpreter that has the packages of these trackers.

    Raises:
        ValueError: one of them is not installed.
    """
    has_venv = (VENV / "bin" / "python").exists()
    for tracker in trackers:
        package = PACKAGES[tracker]
        if has_venv:
            is_there = any(VENV.glob(f"lib/python*/site-packages/{package}/__init__.py"))
        else:
            is_there = importlib.util.find_spec(package) is not None
        if not is_there:
            place = VENV if has_venv else f"{VENV}, nor with the stages"
            raise ValueError(
                f"R1_TRACKERS has {tracker}, and its package {_show_pin(package)} is not installed "
                f"in {place}: `python3 -m nox -s trackers` installs it, or take {tracker} out of "
                f"R1_TRACKERS"
            )
    return str(VENV.absolute() / "bin" / "python") if has_venv else sys.executable


def _show_pin(package: str) -> str:
    """Returns the package with its version in the lock: `wandb==1.2.3`."""
    text = LOCK.read_text(encoding="utf-8") if LOCK.exists() else ""
    pin = re.search(rf"(?mi)^{package}==\S+", text)
    return pin[0] if pin else package
