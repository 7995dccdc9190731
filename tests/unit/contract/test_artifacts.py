"""Outputs appear whole or not at all, and their bytes are stable."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from stages._contract.artifacts import (
    check_model,
    publish,
    read_jsonl,
    sha256_tree,
    write_json,
    write_jsonl,
)
from stages._contract.params import HASH_TREE
from stages.fetch.params import PathSource


def test_publish_replaces_the_old_output(tmp_path: Path) -> None:
    out = tmp_path / "artifacts" / "x"
    out.mkdir(parents=True)
    (out / "old").touch()
    with publish(out) as folder:
        (folder / "new").write_text("1")
        assert [path.name for path in out.iterdir()] == ["old"]
    assert [path.name for path in out.iterdir()] == ["new"]
    assert [path.name for path in out.parent.iterdir()] == ["x"]


def test_publish_keeps_the_old_output_on_failure(tmp_path: Path) -> None:
    out = tmp_path / "x"
    out.mkdir()
    (out / "old").touch()
    with pytest.raises(KeyboardInterrupt), publish(out) as folder:  # noqa: PT012
        (folder / "new").touch()
        raise KeyboardInterrupt
    assert [path.name for path in out.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_publish_removes_what_a_killed_run_left(tmp_path: Path) -> None:
    (tmp_path / ".x.abc").mkdir()
    (tmp_path / ".xy.abc").mkdir()  # another stage's, perhaps running
    with publish(tmp_path / "x"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".xy.abc", "x"]


def test_publish_has_the_new_output_in_place_before_it_removes_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x"
    out.mkdir()
    for name in ("old", "older"):
        (out / name).touch()

    def stop_halfway(folder: Path, **_: bool) -> None:
        next(folder.iterdir()).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", stop_halfway)
        with pytest.raises(KeyboardInterrupt), publish(out) as folder:
            (folder / "new").touch()
    assert [path.name for path in out.iterdir()] == ["new"]
    with publish(out) as folder:
        (folder / "newer").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert [path.name for path in out.iterdir()] == ["newer"]


def test_jsonl_has_sorted_keys_and_real_letters(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "x.jsonl", [{"b": "é", "a": 1}, {"a": None}])
    assert (tmp_path / "x.jsonl").read_bytes() == '{"a": 1, "b": "é"}\n{"a": null}\n'.encode()
    assert read_jsonl(tmp_path / "x.jsonl") == [{"a": 1, "b": "é"}, {"a": None}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": ', "x.jsonl:2 is corrupted"),
        (b'{"a": 1}\n[]\n', "x.jsonl:2 is not a JSON object"),
        (b"\xff\n", "x.jsonl:1 is corrupted"),
        (b'{"a": 1}\n' * 99 + b'{"a": "\xe9"}\n', "x.jsonl:100 is corrupted"),
        (b'{"a": 1}\n\n{"a": ', "x.jsonl:3 is corrupted"),
        (b"\n \n", "x.jsonl is empty"),
        (b"", "x.jsonl is empty"),
    ],
)
def test_bad_jsonl_names_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_jsonl(tmp_path / "x.jsonl")


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    """Editors leave them at the end of users' files, and some have ends of lines of their own."""
    (tmp_path / "x.jsonl").write_bytes(b'{"a": 1}\r\n \n{"a": 2}\n\n')
    assert read_jsonl(tmp_path / "x.jsonl") == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("folder", "remedy"),
    [("artifacts/generate", "run `dvc checkout --force`, or"), ("data", "correct the file")],
)
def test_remedy_is_that_of_who_writes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, remedy: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(folder, "x.jsonl")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{")
    with pytest.raises(ValueError, match=rf"{path}:1 is corrupted \(.*\): {remedy}"):
        read_jsonl(path)


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_tree_digest_is_that_of_sha256sum_lines(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"1")
    (tmp_path / "a").write_bytes(b"2")
    one, two = (hashlib.sha256(content).hexdigest() for content in (b"1", b"2"))
    expected = hashlib.sha256(f"{two}  a\n{one}  b/c\n".encode()).hexdigest()
    assert sha256_tree(tmp_path) == expected


def test_tree_digest_is_what_the_advised_command_prints(tmp_path: Path) -> None:
    for name in ("b/c d", "a", "B", "é"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("a")  # as in the cache of the hub
    command = HASH_TREE.replace("FOLDER", str(tmp_path))
    printed = subprocess.run(["bash", "-c", command], check=True, capture_output=True, text=True)
    assert printed.stdout.split()[0] == sha256_tree(tmp_path)
    with pytest.raises(ValueError, match=r"fetch\.source\.sha256 must be .*find \. ! -type d"):
        PathSource(kind="path", path="x", sha256="")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", None, "has no \\*.safetensors"),
        ("model.safetensors", b"", "model.safetensors is corrupted"),
        ("model.safetensors", b"half", "model.safetensors is corrupted"),
        ("config.json", None, "has no config.json"),
        ("config.json", b'{"model_type": ', "config.json is corrupted"),
        ("tokenizer.json", b"\xff", "tokenizer.json is corrupted"),
    ],
)
def test_bad_model_names_the_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: bytes | None,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = Path("artifacts/base")
    model.mkdir(parents=True)
    save_file({"a": np.zeros(100)}, model / "model.safetensors")
    for other in ("config.json", "tokenizer.json"):
        (model / other).write_text("{}")
    check_model(model)
    if content is None:
        (model / name).unlink()
    elif content == b"half":
        whole = (model / name).read_bytes()
        (model / name).write_bytes(whole[: len(whole) // 2])
    else:
        (model / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        check_model(model)
    assert "dvc" in str(caught.value)
