"""A recorded repository, and the other sides."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.publish.calling import AWS, BIN, TOKEN, record
from tests.publish.hub import running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.publish.hub import Hub

_SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")


@pytest.fixture(scope="session", autouse=True)
def _environment() -> None:
    assert (BIN / "python").exists(), "python3 -m nox -s tests makes .venv-publish"


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a repository with a record of fetch, prompts and a track's prompts."""
    repo = tmp_path_factory.mktemp("recorded") / "repo"
    repo.mkdir()
    record(repo)
    return repo


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Yields an empty hub."""
    with running_hub(TOKEN) as hub:
        yield hub


@pytest.fixture
def s3() -> Iterator[dict[str, str]]:
    """Yields the environment of a server with an empty bucket named `bucket`."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    env = {**AWS, "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    try:
        connect(env).create_bucket(Bucket="bucket")
        yield env
    finally:
        server.stop()


def connect(env: dict[str, str]) -> Any:
    """Returns a client of the server, other than DVC's."""
    return boto3.client(
        "s3",
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_DEFAULT_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[str]:
    """Yields the address of an OpenSSH server, which lets in the key of the calls' home."""
    if _SSHD is None:
        pytest.skip("there is no sshd: apt-get install openssh-server")
    folder, home = tmp_path / "sshd", tmp_path / "home" / ".ssh"
    for path in (folder, home):
        path.mkdir(parents=True)
    for key in (folder / "host", home / "id_ed25519"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        subprocess.run(command, check=True)
    shutil.copy(home / "id_ed25519.pub", folder / "authorized")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    settings = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized",
        "PidFile": "none",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "StrictModes": "no",
        "Subsystem": "sftp internal-sftp",
    }
    config = folder / "config"
    config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # a service's start makes it
    server = subprocess.Popen([_SSHD, "-D", "-e", "-f", str(config)], stderr=subprocess.PIPE)
    try:
        wait_for(port, server)
        yield f"ssh://{getpass.getuser()}@127.0.0.1:{port}"
    finally:
        server.terminate()
        server.communicate(timeout=30)


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    """Returns when something listens on the port."""
    for _ in range(600):
        assert server.poll() is None, server.communicate()
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("sshd does not listen")
