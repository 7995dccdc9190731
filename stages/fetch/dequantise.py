"""A GGUF file turned into a plain float32 model folder, with its tokenizer repaired.

What goes wrong otherwise (transformers 5.17, seen on SmolLM2-135M-Instruct):

1. A model loaded from GGUF refuses to be saved while it carries a quantisation config, and its
   config keeps the author's working title: the weights move into a clean model.
2. The tokenizer loses `tokenizer.ggml.pre`, so that "345" is one token instead of three; it swaps
   bos and eos and forgets pad; it gets a SentencePiece decoder; and it remembers where it was
   loaded from. It is built from the file's own vocabulary, merges and ids here instead.
3. The generation config inherits the wrong eos.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast
from transformers.integrations.gguf import read_gguf_metadata

if TYPE_CHECKING:
    from pathlib import Path

# GGUF's names for pre-tokenizers (llama.cpp's `llama_vocab_pre_type`) that are byte-level BPE.
# smollm splits every digit off, as the published tokenizer.json of SmolLM2 does.
_SPLITS_DIGITS = {"smollm": True, "gpt-2": False, "default": False}
_CONTROL, _USER_DEFINED = 3, 4  # token types of llama.cpp


def convert_gguf(gguf: Path, out: Path) -> None:
    """Writes the model of `gguf` to `out`: float32 weights, config, tokenizer, chat template.

    Raises:
        ValueError: the file is no GGUF file, or its architecture or tokenizer is not supported.
    """
    metadata, _ = read_gguf_metadata(
        str(gguf), string_arrays=("tokenizer.ggml.tokens", "tokenizer.ggml.merges")
    )
    tokenizer = _build_tokenizer(metadata)
    tokenizer.save_pretrained(out)
    _save_weights(gguf, out, tokenizer)


def _save_weights(gguf: Path, out: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    settings = loaded.config.to_dict()
    for key in ("quantization_config", "_model_name_or_path"):
        settings.pop(key, None)
    with torch.device("meta"):  # no second copy of the weights: the loaded ones are assigned
        model = type(loaded)(type(loaded.config)(**settings))
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(out)


def _build_tokenizer(metadata: dict[str, Any]) -> PreTrainedTokenizerFast:
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind != "gpt2" or pre not in _SPLITS_DIGITS:
        raise ValueError(
            f"the GGUF file's tokenizer is {kind!r} with pre-tokenizer {pre!r}; supported are "
            f"'gpt2' with one of {sorted(_SPLITS_DIGITS)}: use a source of kind hub or path"
        )
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    vocab = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    for token, token_type in zip(tokens, metadata["tokenizer.ggml.token_type"], strict=True):
        if token_type == _CONTROL:
            backend.add_special_tokens([AddedToken(token, normalized=False, special=True)])
        elif token_type == _USER_DEFINED:
            backend.add_tokens([AddedToken(token, normalized=False, special=False)])
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
        if _SPLITS_DIGITS[pre]
        else byte_level
    )
    backend.decoder = decoders.ByteLevel()
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    special = {
        f"{name}_token": tokens[metadata[f"tokenizer.ggml.{key}_token_id"]]
        for name, key in names.items()
        if f"tokenizer.ggml.{key}_token_id" in metadata
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=metadata.get("tokenizer.chat_template"),
        model_max_length=metadata[f"{metadata['general.architecture']}.context_length"],
        clean_up_tokenization_spaces=False,
        **special,
    )
