"""Fine-tuning on one GPU beside what `plan` says of it: `python3 -m nox -s bench -- gpu`.

The stage `sft` with the options of recipes/openr1-distill-7b.yaml on one process, and with other
kernels; the model has the shape of one that `plan` knows and random weights, the traces are random
letters of one length. Each measurement is a process of its own, and the ways take turns.

- `tokens/s`: of whole steps, the witness's digests of the weights included; the first steps, which
  compile kernels, do not count. `witness`: the digests' share of the time.
- `MFU`: the model's operations, recomputed activations not counted, by the peak of the data sheet.
- `GB`: the most that torch had allocated; `plan` without its workspace, which is CUDA's and NCCL's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean, stdev
from string import ascii_lowercase
from typing import Any

from stages._contract.params import load
from stages._contract.run import set_environment
from stages._plan.hardware import ASSUMED, GB, H100
from stages._plan.memory import training_memory
from stages._plan.models import Model, find_model
from stages._plan.speed import training_flops_per_token

RECIPE = Path(__file__).parents[1] / "recipes/openr1-distill-7b.yaml"
MODEL = "Qwen/Qwen2.5-1.5B"
HEAD_SIZE = 128  # of all Qwen2.5 from 1.5B on
END = "<|endoftext|>"
NUM_PROMPT = 100  # letters, each a token
NUM_ROUNDS = 2
NUM_STEPS, NUM_WARM_UP = 8, 3
SDPA, FA4 = {"attn_implementation": "sdpa"}, {"attn_implementation": "flash_attention_4"}
PLAIN = {"use_liger_kernel": False, "loss_type": "chunked_nll"}
LIGER = {"use_liger_kernel": True, "loss_type": "nll"}
WAYS: dict[str, dict[str, Any]] = {
    "sdpa": SDPA | PLAIN,
    "sdpa, Liger": SDPA | LIGER,
    "FlashAttention 4, Liger": FA4 | LIGER,
    "FlashAttention 4, Liger, all activations kept": FA4
    | LIGER
    | {"gradient_checkpointing": False},
}
SHAPES = ((1, 8192), (4, 2048))  # traces in a pass, and their tokens


def make_model(shape: Model, folder: Path) -> None:
    """Writes a model of that shape with random weights, and a tokenizer of single bytes."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.attention_width // HEAD_SIZE,
        num_key_value_heads=shape.kv_width // (2 * HEAD_SIZE),
        max_position_embeddings=32768,
        tie_word_embeddings=shape.parameters == shape.active_parameters,
        eos_token_id=0,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        Qwen2ForCausalLM._from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([END, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, pad_token=END, unk_token=END
    ).save_pretrained(folder)


def write_traces(path: Path, num: int, num_tokens: int) -> None:
    """Writes as many traces of that many tokens, the end token included."""
    random = Random(0)  # noqa: S311 - letters, not secrets
    with path.open("w", encoding="utf-8") as file:
        for _ in range(num):
            text = "".join(random.choices(ascii_lowercase, k=num_tokens - 1))
            row = {"prompt": text[:NUM_PROMPT], "completion": text[NUM_PROMPT:]}
            file.write(json.dumps(row) + "\n")


def measure(way: str, num_traces: int, num_tokens: int) -> dict[str, float]:
    """Returns seconds of a step and of the witness in it, and bytes; runs in the model's folder."""
    params = replace(
        load(RECIPE, "sft"),
        dataset="artifacts/filter/train.jsonl",
        distributed="none",
        num_processes=1,
        per_device_train_batch_size=num_traces,
        gradient_accumulation_steps=1,
        max_length=num_tokens + 1,
        dataset_num_proc=None,
        num_train_epochs=1.0,
        save_steps=None,
        **WAYS[way],
    )
    set_environment("sft", params)
    import torch
    from transformers import TrainerCallback, trainer

    from stages.sft.params import inputs
    from stages.sft.stage import run

    moments: list[tuple[float, float]] = []

    class Timer(TrainerCallback):  # type: ignore[misc]  # transformers' callbacks are untyped
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize()
            self.start = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize()
            moments.append((self.start, time.perf_counter()))

    trainer.DEFAULT_CALLBACKS.append(Timer)  # before the witness, which `run` adds
    write_traces(Path(params.dataset), num_traces * NUM_STEPS, num_tokens)
    work = Path(tempfile.mkdtemp(dir="."))
    (work / "out").mkdir()
    run(params, inputs(params, {}), work / "out", work)
    starts = [start for start, _ in moments[NUM_WARM_UP:]]
    whole = (starts[-1] - starts[0]) / (len(starts) - 1)
    bare = fmean(end - start for start, end in moments[NUM_WARM_UP:])
    return {"step_s": whole, "bare_s": bare, "bytes": float(torch.cuda.max_memory_allocated())}


def describe(shape: Model, way: str, size: tuple[int, int], found: list[dict[str, float]]) -> str:
    """Returns a row of the table."""
    num_traces, num_tokens = size
    tokens = num_traces * num_tokens
    params = replace(load(RECIPE, "sft"), **WAYS[way])
    memory = training_memory(
        shape,
        distributed="none",
        num_processes=1,
        dtype=params.dtype,
        tokens_per_pass=tokens,
        gradient_checkpointing=params.gradient_checkpointing,
        is_fused=params.use_liger_kernel,
        is_chunked=True,
    )
    planned = memory.total - memory.workspace
    speeds = [tokens / one["step_s"] for one in found]
    flops = training_flops_per_token(shape, num_tokens)
    shares = [speed * flops / H100.peak_flops for speed in speeds]
    digests = fmean(1 - one["bare_s"] / one["step_s"] for one in found)
    most = max(one["bytes"] for one in found)
    return (
        f"| {num_traces} x {num_tokens:,} | {way} | {fmean(speeds):,.0f} | {_error(shares)} | "
        f"{digests:.0%} | {most / GB:.1f} | {planned / GB:.1f} | {most / planned:.2f} |"
    )


def _error(shares: list[float]) -> str:
    spread = stdev(shares) / len(shares) ** 0.5 if len(shares) > 1 else 0.0
    return f"{100 * fmean(shares):.1f} ± {100 * spread:.1f} %"


def main() -> None:
    """Prints the table."""
    import torch

    shape = find_model(MODEL)
    print(
        f"{MODEL}'s shape, bfloat16, one {torch.cuda.get_device_name()}, torch {torch.__version__}"
    )
    print(f"(`plan` assumes an MFU of {ASSUMED.mfu:.0%})\n")
    print("| traces x tokens | way | tokens/s | MFU | witness | GB | plan | measured / plan |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "artifacts/filter").mkdir(parents=True)
        make_model(shape, Path(scratch) / "artifacts/base")
        env = os.environ | {"PYTHONPATH": _path()}
        for size in SHAPES:
            found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
            for way in list(WAYS) * NUM_ROUNDS:
                call = [sys.executable, "-m", "benchmarks.gpu", way, *map(str, size)]
                done = subprocess.run(
                    call, check=False, cwd=scratch, env=env, capture_output=True, text=True
                )
                if done.returncode:
                    print(f"{way}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                    continue
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
                print(f"{size}, {way}: {found[way][-1]}", file=sys.stderr, flush=True)
            for way in WAYS:
                if found[way]:
                    print(describe(shape, way, size, found[way]), flush=True)


def _path() -> str:
    """Returns where a process in another folder finds this repository."""
    return os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        name, rows, length = sys.argv[1:]
        print(json.dumps(measure(name, int(rows), int(length))))
    else:
        main()
