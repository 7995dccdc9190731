"""What tests of a node want of this one."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def no_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leaves out the machine's own GPUs, if it has some."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
