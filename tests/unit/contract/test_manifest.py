"""What a manifest records of the environment."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from stages._contract import manifest

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[3]
# Pinned in containers/cpu.in, and of no weight for what a stage computes.
OF_NO_RESULT = {
    "cachetools": "keeps verdicts of the verifier, and makes none",
    "ruamel.yaml": "reads parameters, whose values params_sha256 pins",
}


def test_every_pinned_package_is_recorded_or_of_no_result() -> None:
    text = (ROOT / "containers/cpu.in").read_text(encoding="utf-8")
    pinned = re.findall(r"^([a-z][\w.-]*)", text, re.MULTILINE)
    assert len(pinned) > 15
    recorded = {name.lower().replace("_", "-") for name in manifest.list_packages()}
    missing = [name for name in pinned if name not in recorded]
    assert missing == sorted(OF_NO_RESULT, key=pinned.index)


def test_package_is_found_however_its_name_is_spelt() -> None:
    found = manifest.list_packages()
    names = ["reasoning_gym", "math-verify", "lm_eval", "latex2sympy2_extended", "safetensors"]
    assert {name: found[name] for name in names} == {name: version(name) for name in names}


def test_gpus_are_named_with_their_drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an H100's driver said it; none without the command, or where it fails."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert manifest._machine()["gpus"] == []
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 580.159.04'\n")
    command.chmod(0o755)
    assert manifest._machine()["gpus"] == ["NVIDIA H100 80GB HBM3, 580.159.04"]
    command.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    assert manifest._machine()["gpus"] == []
