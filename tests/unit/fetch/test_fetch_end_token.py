"""A base model whose template ends turns with another token than the one that it stops at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from stages.fetch.params import FetchParams, PathSource
from tests.unit.fetch.test_fetch_verify import edit, take

if TYPE_CHECKING:
    from pathlib import Path

END = "<|im_end|>"


@pytest.fixture
def document_model(fetched: Path) -> Path:
    """Returns the tiny model as a base model that stops at the end of a document."""
    edit(fetched / "tokenizer_config.json", eos_token="<|endoftext|>")
    edit(fetched / "config.json", eos_token_id=0)
    edit(fetched / "generation_config.json", eos_token_id=0)
    return fetched


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_the_token_arrives_wherever_libraries_look(document_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    take(document_model, out, eos_token=END)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == (END, 2)
    assert AutoConfig.from_pretrained(out).eos_token_id == 2
    assert GenerationConfig.from_pretrained(out).eos_token_id == [2, 0]  # stops at either
    for name in ("tokenizer_config.json", "config.json", "generation_config.json"):
        before, after = read(document_model / name), read(out / name)
        assert {key for key in before if before[key] != after[key]} <= {"eos_token", "eos_token_id"}
        assert before.keys() == after.keys()
    for name in ("model.safetensors", "tokenizer.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (document_model / name).read_bytes()


def test_null_leaves_every_file_as_it_is(document_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    take(document_model, out, eos_token=None)
    for file in out.iterdir():
        assert file.read_bytes() == (document_model / file.name).read_bytes()


def test_the_model_s_own_token_changes_no_meaning(fetched: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    take(fetched, out, eos_token=END)
    assert read(out / "generation_config.json")["eos_token_id"] == [2]
    assert read(out / "tokenizer_config.json") == read(fetched / "tokenizer_config.json")


def test_unknown_token_is_named(fetched: Path, tmp_path: Path) -> None:
    message = r"fetch\.eos_token: .* has no token '<eot>': name one of its own, such as .*im_end"
    with pytest.raises(ValueError, match=message):
        take(fetched, tmp_path / "out", eos_token="<eot>")
    source = PathSource(kind="path", path="model", sha256="0" * 64)
    with pytest.raises(ValueError, match=r"fetch\.eos_token must be a token, or null"):
        FetchParams(
            image="cpu",
            source=source,
            require_single_digits=True,
            eos_token="",
            expected_sha256=None,
        )
