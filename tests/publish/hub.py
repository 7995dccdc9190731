"""A server of this machine that speaks as much of the hub's protocol as a push uses.

It is no hub: it stands in for one, since tests have none. It keeps what arrives and checks it as
the hub does: sha256 and size of large files, the parent of a commit, the token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE_BYTES = 5_000  # and more go by git LFS
PART_BYTES = 100_000  # of what goes in parts


@dataclass
class Repository:
    """A repository as the hub shows it: files by path, and the commits that made it."""

    kind: str
    is_private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[dict[str, Any]] = field(default_factory=list)

    @property
    def head(self) -> str:
        """Returns the last commit's name."""
        count = f"{self.kind} {len(self.commits)}".encode()
        return hashlib.sha1(count, usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """What the server holds, and all that it was sent."""

    token: str
    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    refused_part: str = ""  # of what goes in parts

    def sent(self, method: str, pattern: str) -> list[str]:
        """Returns the paths of the requests that match."""
        return [path for m, path, _, _ in self.requests if m == method and re.search(pattern, path)]


def is_large(path: str, size: int) -> bool:
    return path.endswith(".safetensors") or size >= LARGE_BYTES


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def digest_of(path: str, files: dict[str, bytes]) -> str | None:
    """Returns what the hub says a file is before an upload, sha256 or git's; None: not there."""
    if path not in files:
        return None
    entry = show(path, files[path])
    return str(entry["lfs"]["oid"] if "lfs" in entry else entry["oid"])


def show(path: str, content: bytes) -> dict[str, Any]:
    """Returns the file as the hub lists it."""
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content)}
    if not is_large(path, len(content)):
        return {**entry, "oid": git_sha1(content)}
    digest = hashlib.sha256(content).hexdigest()
    lfs = {"oid": digest, "size": len(content), "pointerSize": 134}
    return {**entry, "oid": git_sha1(digest.encode()), "lfs": lfs}


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        body = self.read_body()
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, dict(self.headers), body))
        needs_token = not path.startswith("/storage/")  # as the hub's presigned addresses
        if needs_token and self.headers["Authorization"] != f"Bearer {self.hub.token}":
            self.reply(401, {"error": "Invalid username or password."})
            return
        for method, pattern, function in ROUTES:
            found = re.fullmatch(pattern, path)
            if method == self.command and found:
                function(self, body, **found.groupdict())
                return
        self.reply(404, {"error": f"no route for {self.command} {path}"})

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def reply(self, status: int, value: Any = None, **headers: str) -> None:
        content = b"" if value is None else json.dumps(value).encode()
        self.reply_bytes(status, content, {"Content-Type": "application/json", **headers})

    def reply_bytes(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, header in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name.replace("_", "-"), header)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def whoami(self, _: bytes) -> None:
        self.reply(200, {"type": "user", "name": "somebody", "orgs": []})

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        name, kind = f"{asked['organization']}/{asked['name']}", asked.get("type", "model")
        url = f"{self.hub.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
        if name in self.hub.repositories:
            self.reply(409, {"error": "You already created this repo", "url": url})
            return
        made = Repository(kind=kind, is_private=asked.get("visibility") == "private")
        made.files[".gitattributes"] = b"*.safetensors filter=lfs\n"
        self.hub.repositories[name] = made
        self.reply(200, {"url": url, "name": name})

    def info(self, _: bytes, name: str) -> None:
        found = self.hub.repositories[name]
        self.reply(200, {"id": name, "sha": found.head, "private": found.is_private})

    def tree(self, _: bytes, name: str) -> None:
        files = self.hub.repositories[name].files
        self.reply(200, [show(path, content) for path, content in sorted(files.items())])

    def validate(self, body: bytes) -> None:
        _, front, _ = json.loads(body)["content"].split("---\n", 2)
        known = {"apache-2.0", "mit", "cc-by-4.0"}
        errors = [] if yaml.safe_load(front)["license"] in known else [{"message": "bad license"}]
        self.reply(400 if errors else 200, {"errors": errors, "warnings": []})

    def preupload(self, body: bytes, name: str) -> None:
        files = self.hub.repositories[name].files
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if is_large(file["path"], file["size"]) else "regular",
                "shouldIgnore": False,
                "oid": digest_of(file["path"], files),
            }
            for file in json.loads(body)["files"]
        ]
        self.reply(200, {"files": modes})

    def batch(self, body: bytes) -> None:
        objects = []
        for asked in json.loads(body)["objects"]:
            oid, size = asked["oid"], asked["size"]
            entry: dict[str, Any] = {"oid": oid, "size": size}
            if oid not in self.hub.objects:
                upload: dict[str, Any] = {"href": f"{self.hub.url}/storage/{oid}"}
                if size > PART_BYTES:
                    count = -(-size // PART_BYTES)
                    parts = {f"{i:05}": f"{upload['href']}/{i}" for i in range(1, count + 1)}
                    upload["header"] = {"chunk_size": str(PART_BYTES), **parts}
                verify = {"href": f"{self.hub.url}/verify/{oid}"}
                entry["actions"] = {"upload": upload, "verify": verify}
            objects.append(entry)
        self.reply(200, {"transfer": "basic", "objects": objects})

    def store(self, body: bytes, oid: str) -> None:
        self.keep(oid, body)

    def store_part(self, body: bytes, oid: str, part: str) -> None:
        if part == self.hub.refused_part:
            self.reply(400, {"error": "the storage is tired"})
            return
        self.hub.parts.setdefault(oid, {})[int(part)] = body
        self.reply(200, ETag=f'"{part}"')

    def complete(self, body: bytes, oid: str) -> None:
        numbers = [part["partNumber"] for part in json.loads(body)["parts"]]
        assert numbers == sorted(self.hub.parts[oid])
        self.keep(oid, b"".join(self.hub.parts[oid][number] for number in numbers))

    def keep(self, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            self.reply(400, {"error": "not the sha256 that was said"})
            return
        self.hub.objects[oid] = content
        self.reply(200)

    def verify(self, body: bytes, oid: str) -> None:
        right = oid in self.hub.objects and len(self.hub.objects[oid]) == json.loads(body)["size"]
        self.reply(200 if right else 404)

    def commit(self, body: bytes, name: str) -> None:
        found = self.hub.repositories[name]
        header, *operations = [json.loads(line) for line in body.splitlines()]
        if header["value"].get("parentCommit") != found.head:
            self.reply(412, {"error": "the branch has moved"})
            return
        files = dict(found.files)
        for operation in operations:
            value = operation["value"]
            match operation["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.objects[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        found.files = files
        found.commits.append(header["value"])
        url = f"{self.hub.url}/{name}/commit/{found.head}"
        self.reply(200, {"commitUrl": url, "commitOid": found.head})

    def resolve(self, _: bytes, name: str, path: str) -> None:
        found = self.hub.repositories[name]
        content = found.files[path]
        headers = {"ETag": f'"{git_sha1(content)}"', "X-Repo-Commit": found.head}
        self.reply_bytes(200, content, headers)


_API = r"/api/(models|datasets)/(?P<name>[^/]+/[^/]+)"
_RESOLVE = r"/(datasets/)?(?P<name>[^/]+/[^/]+)/resolve/[^/]+/(?P<path>.+)"
ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/api/whoami-v2", Handler.whoami),
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate),
    ("GET", _API, Handler.info),
    ("GET", f"{_API}/tree/main", Handler.tree),
    ("POST", f"{_API}/preupload/main", Handler.preupload),
    ("POST", r"/(datasets/)?[^/]+/[^/]+\.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", r"/storage/(?P<oid>\w+)", Handler.store),
    ("PUT", r"/storage/(?P<oid>\w+)/(?P<part>\d+)", Handler.store_part),
    ("POST", r"/storage/(?P<oid>\w+)", Handler.complete),
    ("POST", r"/verify/(?P<oid>\w+)", Handler.verify),
    ("POST", f"{_API}/commit/main", Handler.commit),
    ("HEAD", _RESOLVE, Handler.resolve),
    ("GET", _RESOLVE, Handler.resolve),
]


@contextmanager
def running_hub(token: str) -> Iterator[Hub]:
    """Yields the hub of a server that runs meanwhile."""
    hub = Hub(token=token)
    handler = type("HubHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
