"""A local server that speaks as much of the hub's protocol as `datasets` asks of it."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import datasets
import huggingface_hub.constants

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pytest

REVISION = "12fd25f77366fa6b3b4b768ec3050bf629380bac"
CARD = b"""---
configs:
- config_name: all
  data_files:
  - split: train
    path: all/train.jsonl
---
"""


@contextmanager
def serve(files: Mapping[str, bytes], requests: list[str]) -> Iterator[str]:
    """Serves `files` as the dataset owner/name at REVISION; yields the address."""
    api = "/api/datasets/owner/name"
    answers = {f"/datasets/owner/name/resolve/{REVISION}/{name}": files[name] for name in files}
    siblings = [{"rfilename": name} for name in files]
    answers[f"{api}/revision/{REVISION}"] = json.dumps(
        {"id": "owner/name", "sha": REVISION, "siblings": siblings}
    ).encode()
    entries = [
        {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
        for name, data in files.items()
        if name.startswith("all/")
    ]
    answers[f"{api}/tree/{REVISION}/all"] = json.dumps(entries).encode()

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


def point_at(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Does what HF_ENDPOINT and HF_HOME do when they are set before the import."""
    constants = huggingface_hub.constants
    files = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache / "datasets")
