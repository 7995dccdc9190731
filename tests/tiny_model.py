"""A tiny Llama with a tokenizer of bytes, taught one sentence so that some of its traces pass."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from pathlib import Path

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' "
    "+ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Whole words, so that a trace is 7 tokens and the model learns it in seconds.
WORDS = ("<think>", "</think>", "<answer>", "</answer>", "Calculate", "system", "user", "assistant")
NUM_PROBLEMS = 120


def question(number: int) -> str:
    """Returns the problem of that number; the answer to all of them is 1 or 2."""
    return f"Calculate {answer(number)} + {number} - {number}"


def answer(number: int) -> str:
    """Returns the answer to the problem of that number."""
    return str(1 + number % 2)


def write_problems(path: Path) -> str:
    """Writes the problems as JSON Lines and returns the file's sha256."""
    rows = [{"q": question(n), "a": f"so #### {answer(n)}"} for n in range(10, 10 + NUM_PROBLEMS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Returns a byte-level tokenizer with single digits."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.add_special_tokens(list(SPECIAL))
    backend.add_tokens(list(WORDS))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=TEMPLATE,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def write_model(folder: Path, num_steps: int = 60) -> None:
    """Writes the model to `folder`: random weights, then a few steps on traces with a 1 or a 2."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=32,  # vLLM's CPU attention takes no smaller one
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
            dtype="float32",
        )
    )
    _teach(model, tokenizer, num_steps)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _teach(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, num_steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(num_steps):
        numbers = torch.randint(10, 99, (16,), generator=generator).tolist()
        texts = []
        for number in numbers:
            guess = int(torch.randint(1, 3, (1,), generator=generator))
            reply = f"<think>{guess}</think><answer>{guess}</answer>"
            messages = [
                {"role": "user", "content": question(number)},
                {"role": "assistant", "content": reply},
            ]
            texts.append(tokenizer.apply_chat_template(messages, tokenize=False))
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
