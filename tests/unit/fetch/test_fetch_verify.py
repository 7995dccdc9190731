"""Local folders as sources, and what is checked of any model."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from stages._contract.artifacts import sha256_file, sha256_tree
from stages.fetch.params import FetchInputs, FetchParams, PathSource
from stages.fetch.stage import run

if TYPE_CHECKING:
    from pathlib import Path


def take(folder: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """Runs the stage on a local folder whose digest is right."""
    source = PathSource(kind="path", path=str(folder), sha256=sha256_tree(folder))
    settings: dict[str, Any] = {
        "image": "cpu",
        "source": source,
        "require_single_digits": True,
        "eos_token": None,
        "expected_sha256": None,
    }
    out.mkdir()
    params = FetchParams(**(settings | changes))
    metrics: dict[str, Any] = run(params, FetchInputs(), out, out)["fetch"]
    return metrics


def edit(file: Path, **changes: Any) -> None:
    """Sets keys of a JSON file; None removes one."""
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_local_folder_is_copied_byte_for_byte(fetched: Path, tmp_path: Path) -> None:
    (fetched / "README.md").write_text("not part of the model")
    (fetched / "modeling_tiny.py").write_text("raise SystemExit")
    digest = sha256_file(fetched / "model.safetensors")
    metrics = take(fetched, tmp_path / "out", expected_sha256=digest)
    copied = {file.name for file in (tmp_path / "out").iterdir()}
    assert copied == {file.name for file in fetched.iterdir()} - {"README.md", "modeling_tiny.py"}
    for name in copied:
        assert (tmp_path / "out" / name).read_bytes() == (fetched / name).read_bytes()
    assert metrics["model_sha256"] == digest


def test_changed_folder_is_refused(fetched: Path, tmp_path: Path) -> None:
    source = PathSource(kind="path", path=str(fetched), sha256=sha256_tree(fetched))
    edit(fetched / "generation_config.json", eos_token_id=1)
    with pytest.raises(ValueError, match=r"fetch\.source\.sha256 is .* one that was changed"):
        take(fetched, tmp_path / "out", source=source)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    source = PathSource(kind="path", path=str(tmp_path / "nowhere"), sha256="0" * 64)
    with pytest.raises(ValueError, match=r"nowhere' is not a folder"):
        take(tmp_path, tmp_path / "out", source=source)


def test_shards_have_one_digest(fetched: Path, tmp_path: Path) -> None:
    single = take(fetched, tmp_path / "single")
    shutil.copyfile(fetched / "model.safetensors", fetched / "model-2.safetensors")
    double = take(fetched, tmp_path / "double")
    assert double["num_parameters"] == 2 * single["num_parameters"]
    assert double["model_sha256"] not in (single["model_sha256"], None)


def test_other_weights_than_expected(fetched: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fetch\.expected_sha256 is 0{64}, but the weights have"):
        take(fetched, tmp_path / "out", expected_sha256="0" * 64)


def test_truncated_weights(fetched: Path, tmp_path: Path) -> None:
    file = fetched / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"model\.safetensors of fetch\.source is corrupted"):
        take(fetched, tmp_path / "out")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_file_is_named(fetched: Path, tmp_path: Path, name: str) -> None:
    (fetched / name).unlink()
    with pytest.raises(ValueError, match=rf"has no .*{name.partition('.')[2]}"):
        take(fetched, tmp_path / "out")


@pytest.mark.parametrize("name", ["eos_token", "pad_token"])
def test_tokenizer_needs_eos_and_pad(fetched: Path, tmp_path: Path, name: str) -> None:
    edit(fetched / "tokenizer_config.json", **{name: None})
    with pytest.raises(ValueError, match=f"has no {name}"):
        take(fetched, tmp_path / "out")


def test_merged_digits_are_refused_if_single_ones_are_required(
    fetched: Path, tmp_path: Path
) -> None:
    tokenizer = json.loads((fetched / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = tokenizer["pre_tokenizer"]["pretokenizers"][1]
    (fetched / "tokenizer.json").write_text(json.dumps(tokenizer))
    take(fetched, tmp_path / "lenient", require_single_digits=False)
    with pytest.raises(ValueError, match=r"tokens of several digits such as '12'"):
        take(fetched, tmp_path / "strict")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for message in messages %}", "cannot be used"),
        ("{{ raise_exception('no system message') }}", "no system message"),
        ("hello", "loses the user's message"),
        (None, "cannot be used"),
    ],
)
def test_chat_template_must_render(
    fetched: Path, tmp_path: Path, template: str | None, message: str
) -> None:
    (fetched / "chat_template.jinja").unlink()
    if template is not None:
        (fetched / "chat_template.jinja").write_text(template)
    with pytest.raises(ValueError, match=message):
        take(fetched, tmp_path / "out")


def test_tokenizer_and_embeddings_belong_together(fetched: Path, tmp_path: Path) -> None:
    edit(fetched / "config.json", vocab_size=100)
    with pytest.raises(ValueError, match="but the model has 100 embeddings"):
        take(fetched, tmp_path / "out")
