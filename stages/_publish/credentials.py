"""Secrets: they come from the environment alone, and are neither printed nor published."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECRET = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|API_?KEY|ACCESS_KEY|CREDENTIAL|PRIVATE_KEY", re.IGNORECASE
)
# Shorter ones are no secrets (TOKENIZERS_PARALLELISM is "false"), and would be found everywhere.
_MIN_LENGTH = 12
# One of these sets must be there for S3; all but the first are how clusters and clouds hand it out.
_AWS = (
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ("AWS_PROFILE",),
    ("AWS_WEB_IDENTITY_TOKEN_FILE",),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI",),
)
# DVC's options of S3 and SSH remotes that hold a secret themselves, and what to use instead.
_OPTIONS = {
    "access_key_id": "set AWS_ACCESS_KEY_ID in the environment",
    "secret_access_key": "set AWS_SECRET_ACCESS_KEY in the environment",
    "session_token": "set AWS_SESSION_TOKEN in the environment",
    "sse_customer_key": "use a key that the server keeps (sse_kms_key_id)",
    "password": "use a key, by the agent of ssh or the remote's keyfile",
    "passphrase": "let the agent of ssh hold the key",
}


def find_secrets() -> dict[str, str]:
    """Returns the values of the environment's variables that look like secrets, by name."""
    return {
        name: value
        for name, value in os.environ.items()
        if _SECRET.search(name) and len(value) >= _MIN_LENGTH
    }


def redact(text: str) -> str:
    """Returns the text, in which the names of variables stand for the secrets that they hold."""
    for name, value in find_secrets().items():
        text = text.replace(value, f"<{name}>")
    return text


def read_hub_token() -> str:
    """Returns HF_TOKEN.

    Raises:
        ValueError: it is not set. A token that `hf auth login` has stored is not used.
    """
    token = os.environ.get("HF_TOKEN", "")
    if not token:
        raise ValueError(
            "HF_TOKEN is not set: make a token that may write at the hub's settings/tokens, and "
            "put it into the environment; nothing was sent"
        )
    return token


def check_remote(name: str, url: str, options: Mapping[str, object]) -> None:
    """Checks that a DVC remote's secrets are in the environment, and nowhere else.

    Args:
        name: as the user gave it, or "" for an address.
        url: its address.
        options: DVC's configuration of it.

    Raises:
        ValueError: a secret is missing, or is in the address or in DVC's configuration.
    """
    if urlsplit(url).password is not None:
        raise ValueError(
            f"the address of {name or 'the remote'} has a password in it, which logs and processes "
            f"show: leave it out, and {_OPTIONS['password']}"
        )
    for key in sorted(options.keys() & _OPTIONS.keys()):
        raise ValueError(
            f"remote {name!r} has {key} in DVC's configuration: `dvc remote modify --unset {name} "
            f"{key}` (with --local, --global or --system, where it is), and {_OPTIONS[key]}"
        )
    if url.startswith("s3://") and not any(
        all(os.environ.get(variable) for variable in variables) for variables in _AWS
    ):
        raise ValueError(
            f"{url} needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, in the "
            "environment; nothing was sent"
        )
