"""The token that ends a turn, where a base model ends documents with another one than its template.

Qwen2.5's base models, for example, stop at <|endoftext|>, while their chat template closes every
turn with <|im_end|>. Trained on turns, such a model writes <|im_end|>, at which nothing would stop.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from transformers import AutoTokenizer

if TYPE_CHECKING:
    from pathlib import Path


def set_end_token(token: str, folder: Path) -> None:
    """Makes `token` the tokenizer's eos and the first at which generation stops.

    Others stay so where the model has a generation_config.json, which alone lists several. No other
    key of the files changes, and neither do the weights.

    Raises:
        ValueError: the model has no such token; names the key.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    index = tokenizer.get_vocab().get(token)
    if index is None:
        known = ", ".join(sorted(set(tokenizer.all_special_tokens)))
        raise ValueError(
            f"fetch.eos_token: the model of fetch.source has no token {token!r}: name one of its "
            f"own, such as {known}, or null for the one that it has"
        )
    _edit(folder / "tokenizer_config.json", {"eos_token": token})
    if (folder / "special_tokens_map.json").is_file():
        _edit(folder / "special_tokens_map.json", {"eos_token": token})
    _edit(folder / "config.json", {"eos_token_id": index})
    generation = folder / "generation_config.json"
    if generation.is_file():
        before = json.loads(generation.read_text(encoding="utf-8")).get("eos_token_id")
        ids = before if isinstance(before, list) else [] if before is None else [before]
        _edit(generation, {"eos_token_id": [index, *(other for other in ids if other != index)]})


def _edit(path: Path, changes: dict[str, Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    text = json.dumps(content | changes, ensure_ascii=False, indent=2)
    path.write_text(f"{text}\n", encoding="utf-8")
