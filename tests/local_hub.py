"""A local server that speaks as much of the Hugging Face hub's protocol as downloads ask of it."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import huggingface_hub.constants

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pytest

REVISION = "12fd25f77366fa6b3b4b768ec3050bf629380bac"


@contextmanager
def serve_model(files: Mapping[str, bytes], requests: list[str]) -> Iterator[str]:
    """Serves `files` as the model owner/name at REVISION; yields the address.

    Both append the paths that they are asked for to `requests`.
    """
    answers = {f"/owner/name/resolve/{REVISION}/{name}": files[name] for name in files}
    answers[f"/api/models/owner/name/tree/{REVISION}"] = list_files(files)
    with _serve(answers, requests) as address:
        yield address


@contextmanager
def serve_dataset(files: Mapping[str, bytes], requests: list[str]) -> Iterator[str]:
    """Serves `files` as the dataset owner/name at REVISION; yields the address."""
    api = "/api/datasets/owner/name"
    answers = {f"/datasets/owner/name/resolve/{REVISION}/{name}": files[name] for name in files}
    siblings = [{"rfilename": name} for name in files]
    answers[f"{api}/revision/{REVISION}"] = json.dumps(
        {"id": "owner/name", "sha": REVISION, "siblings": siblings}
    ).encode()
    inside = {name: data for name, data in files.items() if name.startswith("all/")}
    answers[f"{api}/tree/{REVISION}/all"] = list_files(inside)
    with _serve(answers, requests) as address:
        yield address


def list_files(files: Mapping[str, bytes]) -> bytes:
    """Returns the hub's tree listing of these files."""
    return json.dumps(
        [
            {"type": "file", "path": name, "size": len(data), "oid": _sha1(data)}
            for name, data in files.items()
        ]
    ).encode()


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Does what HF_ENDPOINT does when it is set before the import."""
    constants = huggingface_hub.constants
    files = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)


@contextmanager
def _serve(answers: Mapping[str, bytes], requests: list[str]) -> Iterator[str]:
    """Answers requests by their path; yields the address."""

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
            body = answers.get(path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("ETag", f'"{_sha1(body)}"')
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


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
