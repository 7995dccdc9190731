"""What params.yaml may say about the base model."""

from __future__ import annotations

import pytest

from stages.fetch.params import FetchParams, HubSource, PathSource, PypiSource

SHA256 = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "revision", ["main", "v1.0", "12fd25f", "12FD25F77366FA6B3B4B768EC3050BF629380BAC", ""]
)
def test_hub_takes_nothing_but_a_full_commit(revision: str) -> None:
    with pytest.raises(ValueError, match=r"fetch\.source\.revision must be a commit of 40 hex"):
        HubSource(kind="hub", repo="owner/name", revision=revision)


def test_hub_takes_a_full_commit() -> None:
    revision = "12fd25f77366fa6b3b4b768ec3050bf629380bac"
    assert HubSource(kind="hub", repo="o/n", revision=revision).revision == revision


@pytest.mark.parametrize("repo", ["name", "a/b/c", "https://example.org/a/b", "a b/c"])
def test_hub_repo_is_owner_and_name(repo: str) -> None:
    with pytest.raises(ValueError, match=r"fetch\.source\.repo must be owner/name"):
        HubSource(kind="hub", repo=repo, revision="0" * 40)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": ">=0.1"}, "one exact version"),
        ({"version": "0.1.*"}, "one exact version"),
        ({"package": "-r evil.txt"}, "a distribution's name"),
        ({"sha256": SHA256[:-1]}, "64 lower-case hex digits"),
        ({"sha256": SHA256.upper()}, "64 lower-case hex digits"),
        ({"file": "model.bin"}, "path of a .gguf file"),
        ({"file": "../model.gguf"}, "path of a .gguf file"),
    ],
)
def test_pypi_pins_are_exact(change: dict[str, str], message: str) -> None:
    valid = {"package": "p", "version": "0.1.2", "sha256": SHA256, "file": "p/model.gguf"}
    PypiSource(kind="pypi", **valid)
    with pytest.raises(ValueError, match=message):
        PypiSource(kind="pypi", **(valid | change))


def test_expected_sha256_is_a_digest_or_null() -> None:
    source = PathSource(kind="path", path="model", sha256=SHA256)
    FetchParams(
        image="cpu", source=source, require_single_digits=True, eos_token=None, expected_sha256=None
    )
    with pytest.raises(ValueError, match=r"fetch\.expected_sha256 must be 64"):
        FetchParams(
            image="cpu",
            source=source,
            require_single_digits=True,
            eos_token=None,
            expected_sha256="latest",
        )
