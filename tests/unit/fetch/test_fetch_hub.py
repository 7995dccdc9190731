"""The hub source against a local server that speaks the hub's protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import huggingface_hub.constants
import pytest

from stages.fetch.params import FetchInputs, FetchParams, HubSource
from stages.fetch.stage import run
from tests.local_hub import REVISION, point_at, serve_model

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path


def hub(folder: Path, requests: list[str]) -> AbstractContextManager[str]:
    """Serves the folder's files, as they are now."""
    files = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    return serve_model(files, requests)


def params(revision: str | None = REVISION) -> FetchParams:
    return FetchParams(
        image="cpu",
        source=HubSource(kind="hub", repo="owner/name", revision=revision),
        require_single_digits=True,
        eos_token=None,
        expected_sha256=None,
    )


def folders(tmp_path: Path) -> tuple[Path, Path]:
    out, work = tmp_path / "out", tmp_path / "work"
    out.mkdir()
    work.mkdir()
    return out, work


def test_files_of_the_commit_are_taken_as_published(
    fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {file.name: file.read_bytes() for file in fetched.iterdir()}
    (fetched / "modeling_name.py").write_text("raise SystemExit")
    (fetched / "pytorch_model.bin").write_text("pickled")
    (fetched / "onnx").mkdir()
    (fetched / "onnx" / "config.json").write_text("{}")
    requests: list[str] = []
    out, work = folders(tmp_path)
    with hub(fetched, requests) as address:
        point_at(address, monkeypatch)
        run(params(), FetchInputs(), out, work)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == expected
    assert all(REVISION in path for path in requests)
    assert not [path for path in requests if path.endswith((".py", ".bin")) or "onnx" in path]


def test_commit_that_the_hub_does_not_have(
    fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, work = folders(tmp_path)
    with hub(fetched, []) as address:
        point_at(address, monkeypatch)
        with pytest.raises(ValueError, match=r"the hub refused owner/name at 0{40}"):
            run(params("0" * 40), FetchInputs(), out, work)


def test_recipe_without_a_commit_is_refused_before_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []
    out, work = folders(tmp_path)
    with hub(tmp_path, requests) as address:
        point_at(address, monkeypatch)
        message = r"fetch\.source\.revision is null: no commit of owner/name .* set the one that"
        with pytest.raises(ValueError, match=message):
            run(params(None), FetchInputs(), out, work)
    assert requests == []


def test_unreachable_hub_is_said_plainly(
    fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub(fetched, []) as address:
        pass  # nobody listens there any more
    point_at(address, monkeypatch)
    with pytest.raises(ValueError, match=r"hub cannot be reached for owner/name at 12fd25f"):
        run(params(), FetchInputs(), *folders(tmp_path))


def test_offline_mode_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"check the network and HF_HUB_OFFLINE"):
        run(params(), FetchInputs(), *folders(tmp_path))
