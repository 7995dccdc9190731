"""What must hold of a base model before hours are spent on it."""

from __future__ import annotations

import hashlib
from math import prod
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoTokenizer

from stages._contract.artifacts import sha256_file

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from stages.fetch.params import FetchParams


def verify(params: FetchParams, folder: Path) -> dict[str, Any]:
    """Checks the model folder and returns its metrics.

    Returns: num_parameters (stored ones, tied weights counted once), vocab_size (rows of the
    embedding), model_sha256 and tokenizer_sha256.

    Raises:
        ValueError: names the file or the key, and what to do.
    """
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ValueError(f"the model of fetch.source has no {name}: choose one that has it")
    digest, num_parameters = _inspect_weights(folder)
    if params.expected_sha256 not in (None, digest):
        raise ValueError(
            f"fetch.expected_sha256 is {params.expected_sha256}, but the weights have {digest}: "
            f"the source or the conversion changed; find out which before you change the pin"
        )
    config = AutoConfig.from_pretrained(folder)
    _check_tokenizer(AutoTokenizer.from_pretrained(folder), params, config.vocab_size)
    return {
        "num_parameters": num_parameters,
        "vocab_size": config.vocab_size,
        "model_sha256": digest,
        "tokenizer_sha256": sha256_file(folder / "tokenizer.json"),
    }


def _inspect_weights(folder: Path) -> tuple[str, int]:
    """Returns the digest and the number of parameters of the weights.

    The digest is the file's sha256 if there is one file, else that of `sha256sum`'s lines.
    """
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise ValueError("the model of fetch.source has no *.safetensors: choose one that has them")
    num_parameters = 0
    for shard in shards:
        try:
            with safe_open(shard, framework="numpy") as tensors:
                for key in tensors.keys():  # noqa: SIM118 - not a dict
                    num_parameters += prod(tensors.get_slice(key).get_shape())
        except SafetensorError as error:
            raise ValueError(f"{shard.name} of fetch.source is corrupted: {error}") from error
    digests = [sha256_file(shard) for shard in shards]
    if len(digests) == 1:
        return digests[0], num_parameters
    lines = [f"{digest}  {shard.name}\n" for digest, shard in zip(digests, shards, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest(), num_parameters


def _check_tokenizer(
    tokenizer: PreTrainedTokenizerBase, params: FetchParams, vocab_size: int
) -> None:
    for name in ("eos_token", "pad_token"):
        if getattr(tokenizer, name) is None:
            raise ValueError(
                f"the tokenizer of fetch.source has no {name}, which every later stage needs: "
                f"choose an instruction-tuned model, or name it in its tokenizer_config.json"
            )
    if len(tokenizer) > vocab_size:
        raise ValueError(
            f"the tokenizer of fetch.source has {len(tokenizer)} tokens, but the model has "
            f"{vocab_size} embeddings: they do not belong together"
        )
    merged = sorted({token for token in _tokens_of_numbers(tokenizer) if _num_digits(token) > 1})
    if params.require_single_digits and merged:
        raise ValueError(
            f"fetch.require_single_digits is true, but the tokenizer has tokens of several digits "
            f"such as {merged[0]!r}: set it to false if the model was trained like that"
        )
    message = {"role": "user", "content": "What is 12 + 34?"}
    try:
        prompt = tokenizer.apply_chat_template(
            [message], tokenize=False, add_generation_prompt=True
        )
    except (TemplateError, ValueError) as error:  # ValueError: there is no template at all
        raise ValueError(f"the chat template of fetch.source cannot be used: {error}") from error
    if message["content"] not in prompt:
        raise ValueError(
            f"the chat template of fetch.source loses the user's message: it gives {prompt!r}"
        )


def _tokens_of_numbers(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Returns the tokens of the numbers of two digits: what any merge of digits starts with."""
    tokens: list[str] = tokenizer.tokenize(" ".join(f"{number:02}" for number in range(100)))
    return tokens


def _num_digits(token: str) -> int:
    return sum(character.isdigit() for character in token)
