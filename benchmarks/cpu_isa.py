"""What the limits on the instruction set cost: `python3 -m nox -s bench -- cpu_isa`.

Each measurement is a process of its own, and the limits take turns, so that a busy machine slows
all of them. The work is that of the default recipe on its SFT model: a training step (forward and
backward, 16 x 96 tokens), transformers' sampling (32 x 40 tokens) and vLLM's (64 x 40 tokens).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, get_args

from stages._contract.determinism import LIMITS, CpuIsa
from stages._contract.params import load

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = Path("artifacts/sft")
NUM_ROUNDS = 2


def train() -> Callable[[], object]:
    """Returns a training step."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.use_deterministic_algorithms(mode=True)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    ids = torch.randint(100, 40000, (16, 96), generator=torch.Generator().manual_seed(0))

    def step() -> None:
        model(ids, labels=ids).loss.backward()

    return step


def sample() -> Callable[[], object]:
    """Returns a round of sampling with transformers, as GRPO does it on a CPU."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    ids = torch.randint(100, 40000, (32, 60), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    options = {"do_sample": True, "top_k": 0, "max_new_tokens": 40, "min_new_tokens": 40}
    return lambda: model.generate(ids, attention_mask=mask, **options)


def generate() -> Callable[[], object]:
    """Returns a round of sampling with vLLM."""
    from vllm import LLM, SamplingParams

    from stages.generate.engine import engine_kwargs

    params = load(Path("params.yaml"), "generate")
    llm = LLM(**engine_kwargs(params.engine, MODEL))
    prompts = [{"prompt_token_ids": [(7 * n + i) % 40000 for i in range(60)]} for n in range(64)]
    options = [SamplingParams(max_tokens=40, ignore_eos=True, seed=n) for n in range(64)]
    return lambda: llm.generate(prompts, options, use_tqdm=False)


WORK = {"training step": train, "transformers sampling": sample, "vLLM sampling": generate}


def measure(name: str, isa: CpuIsa) -> float:
    """Returns the seconds of the second of two rounds: the first one also warms up."""
    from stages._contract.run import set_environment
    from stages.generate.engine import prepare_environment

    params = replace(load(Path("params.yaml"), "generate"), cpu_isa=isa)
    set_environment("generate", params)
    if name == "vLLM sampling":
        prepare_environment(params.num_threads, isa)
    do = WORK[name]()
    do()
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def main() -> None:
    """Prints a table of times and of their ratios to `native`."""
    if len(sys.argv) > 1:
        limits: dict[str, CpuIsa] = {isa: isa for isa in get_args(CpuIsa)}
        print(json.dumps({"seconds": measure(sys.argv[1], limits[sys.argv[2]])}), flush=True)
        return
    print("| work | limit | seconds | ratio to native |\n|---|---|---:|---:|")
    for name in WORK:
        seconds: dict[str, list[float]] = {isa: [] for isa in LIMITS}
        for _ in range(NUM_ROUNDS):
            for isa, values in seconds.items():
                command = [sys.executable, "-m", "benchmarks.cpu_isa", name, isa]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                line = next(x for x in done.stdout.splitlines() if x.startswith('{"seconds"'))
                values.append(json.loads(line)["seconds"])
        for isa, values in seconds.items():
            ratios = [a / b for a, b in zip(values, seconds["native"], strict=True)]
            error = stdev(ratios) / len(ratios) ** 0.5
            print(f"| {name} | {isa} | {min(values):.1f} | {fmean(ratios):.2f} ± {error:.2f} |")


if __name__ == "__main__":
    main()
