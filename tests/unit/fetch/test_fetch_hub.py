"""The hub source against a local server that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import huggingface_hub.constants
import pytest

from stages.fetch.params import FetchInputs, FetchParams, HubSource
from stages.fetch.stage import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REVISION = "12fd25f77366fa6b3b4b768ec3050bf629380bac"


@contextmanager
def hub(folder: Path, requests: list[str]) -> Iterator[str]:
    """Serves `folder` as owner/name at REVISION; yields the address, appends requested paths."""
    files = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

        def answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            requests.append(path)
            name = path.removeprefix(f"/owner/name/resolve/{REVISION}/")
            if path == f"/api/models/owner/name/tree/{REVISION}":
                body = json.dumps([entry(name, data) for name, data in files.items()]).encode()
            elif name in files:
                body = files[name]
            else:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("ETag", f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"')
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def entry(name: str, data: bytes) -> dict[str, object]:
    """Returns a file as the hub's tree listing gives it."""
    digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    return {"type": "file", "path": name, "size": len(data), "oid": digest}


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Does what HF_ENDPOINT does when it is set before the import."""
    files = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)


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
