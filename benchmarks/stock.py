"""What the stages gain over the libraries' own ways: `python3 -m nox -s bench -- stock`.

Each measurement is a process of its own, and the ways take turns, so that a busy machine slows all
of them. The model is the default recipe's.

- **generate**: traces of 32 problems, 4 samples each, behind the recipe's worked examples, or
  zero-shot; the stage's engine against transformers' `generate`, 32 samples at once.
- **sft**: steps of the recipe; the stage against TRL's `SFTTrainer` on the same batches, with TRL's
  defaults for all that is not the model, the batch or the length: bfloat16 by autocast, gradient
  checkpointing.
- **grpo**: steps of the recipe; the stage against TRL's `GRPOTrainer` in the same way, with the
  same rewards, loss and reference.

`stock` leaves this CPU's instructions alone; `stock, float32` has the stage's precision besides;
`stage, bfloat16` is the stage with this CPU's instructions, weights in bfloat16 included.
`% of peak` is what a step must compute at least, over what a product of two matrices of 2048 x 2048
does in the same process: 6 operations per parameter and token that is learnt from, 2 where one is
only read or written; each prompt once for its completions, no padding, attention left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import read_jsonl
from stages._contract.params import load
from stages._contract.run import set_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stages.generate.params import GenerateParams
    from stages.grpo.params import GrpoParams
    from stages.sft.params import SftParams

PARAMS = Path("params.yaml")
MODEL = Path("artifacts/sft")
NUM_ROUNDS = 2
NUM_PROBLEMS = 32
NUM_WARM_UP = 2  # problems
NUM_STEPS = 4  # the first one also warms up, and does not count
BFLOAT16 = "stage, bfloat16"
WAYS = ("stage", "stock", "stock, float32", BFLOAT16)
WORK: dict[str, tuple[str, Sequence[str], dict[str, Any]]] = {
    "generate, worked examples": ("generate", WAYS[:2], {}),
    "generate, zero-shot": ("generate", WAYS[:2], {"num_examples": 0}),
    "sft": ("sft", WAYS, {}),
    "grpo": ("grpo", WAYS, {}),
}


def measure_peak(num_threads: int) -> float:
    """Returns the operations per second of a product of two square matrices of float32."""
    import torch

    torch.set_num_threads(num_threads)
    a = torch.randn(2048, 2048)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds)


def sample(way: str, params: GenerateParams) -> dict[str, float]:
    """Returns the tokens and seconds of sampling, after a few prompts that warm up."""
    from transformers import AutoTokenizer

    from stages.generate.sample import tokenize

    rows = read_jsonl(Path(params.prompts))[:NUM_PROBLEMS]
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    examples = read_jsonl(Path(params.examples))[: params.num_examples]
    prompts = tokenize(tokenizer, rows, examples, params)
    if way == "stage":
        from vllm import LLM

        from stages.generate.engine import engine_kwargs
        from stages.generate.sample import draw_noise_once

        llm = LLM(**engine_kwargs(params.engine, MODEL))
        draw_noise_once(llm)
        write = partial(write_by_stage, llm, params)
    else:
        write = partial(write_by_transformers, load_model(params.seed), tokenizer, params)
    write(dict(list(prompts.items())[:NUM_WARM_UP]))
    start = time.perf_counter()
    num_tokens = write(prompts)
    return {"tokens": num_tokens, "seconds": time.perf_counter() - start}


def write_by_stage(llm: Any, params: GenerateParams, prompts: dict[str, list[int]]) -> int:
    """Returns the tokens of all samples, their end tokens included."""
    from stages.generate.sample import sample as sample_by_stage

    return sum(row["num_tokens"] for row in sample_by_stage(llm, prompts, params))


def load_model(seed: int) -> Any:
    """Returns the model as transformers loads it, after the seed is set."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)


def write_by_transformers(
    model: Any, tokenizer: Any, params: GenerateParams, prompts: dict[str, list[int]]
) -> int:
    """Returns the tokens of all samples, their end tokens included."""
    import torch

    rows = list(prompts.values())
    num = 0
    for first in range(0, len(rows), 8):
        batch = tokenizer.pad(
            {"input_ids": rows[first : first + 8]}, padding_side="left", return_tensors="pt"
        )
        with torch.inference_mode():
            out = model.generate(
                **batch,
                do_sample=True,
                temperature=params.temperature,
                top_k=0,
                top_p=params.top_p,
                max_new_tokens=params.max_tokens,
                num_return_sequences=params.num_samples,
            )
        new = out[:, batch["input_ids"].shape[1] :]
        is_end = (new == model.generation_config.eos_token_id).int()
        num += int((is_end.cumsum(1) - is_end == 0).sum())  # up to the first end token, with it
    return num


def train_sft(way: str, params: SftParams, work: Path) -> dict[str, float]:
    """Returns tokens, seconds and operations of steps of sft."""
    from trl import SFTConfig, SFTTrainer

    from stages.sft.stage import WitnessedTrainer, load_traces, to_trl
    from stages.sft.witness import Witness

    ours = to_trl(params, work)
    same = ("output_dir", "seed", "learning_rate", "per_device_train_batch_size", "max_length")
    options = ours if way == "stage" else pick(ours, *same, "report_to", "use_cpu") | only(way)
    arguments = {
        "model": str(MODEL),
        "args": SFTConfig(**options | {"max_steps": NUM_STEPS, "logging_steps": 1}),
        "train_dataset": load_traces(Path(params.dataset), work / "datasets"),
    }
    trainer = WitnessedTrainer(**arguments) if way == "stage" else SFTTrainer(**arguments)
    if way == "stage":
        trainer.witness = Witness(work / "steps.jsonl")
    read: list[tuple[int, int]] = []
    collate = trainer.data_collator

    def count(rows: list[dict[str, Any]]) -> Any:
        read.append((sum(len(row["input_ids"]) for row in rows), count_learnt(rows)))
        return collate(rows)

    trainer.data_collator = count
    seconds = time_steps(trainer, params, work)
    tokens = [sum(part) for part in zip(*read[1:NUM_STEPS], strict=True)]
    body, head = count_parameters(trainer.model)
    return {
        "tokens": tokens[0],
        "seconds": seconds,
        "operations": 6 * (body * tokens[0] + head * tokens[1]),
    }


def count_learnt(rows: list[dict[str, Any]]) -> int:
    """Returns the tokens that a loss is computed of: other labels are -100."""
    return sum(label >= 0 for row in rows for label in row["labels"])


def train_grpo(way: str, params: GrpoParams, work: Path) -> dict[str, float]:
    """Returns tokens of completions, seconds and operations of steps of grpo."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from stages.grpo.rewards.completions import read_prefix
    from stages.grpo.stage import WitnessedTrainer, choose_rewards, to_trl
    from stages.sft.witness import Witness

    ours = to_trl(replace(params, max_steps=NUM_STEPS), work)
    same = (
        *("output_dir", "seed", "learning_rate", "per_device_train_batch_size", "max_steps"),
        *("gradient_accumulation_steps", "num_generations", "max_completion_length", "temperature"),
        *("beta", "loss_type", "reward_weights", "logging_steps", "report_to", "use_cpu"),
    )
    rows = read_jsonl(Path(params.prompts))
    arguments = {
        "model": str(MODEL),
        "reward_funcs": choose_rewards(params, rows),
        "args": GRPOConfig(**(ours if way == "stage" else pick(ours, *same) | only(way))),
        "train_dataset": Dataset.from_list(rows),
    }
    trainer = WitnessedTrainer(**arguments) if way == "stage" else GRPOTrainer(**arguments)
    if way == "stage":
        trainer.witness = Witness(work / "steps.jsonl")
        trainer.think_prefix = read_prefix(trainer.processing_class)
        trainer.share_prompts = params.share_prompts
    lengths: list[tuple[int, int]] = []
    generate = trainer._generate

    def count(prompts: Any, *others: Any) -> Any:
        found = generate(prompts, *others)
        different = {tuple(ids) for ids in found[0]}
        lengths.append((sum(map(len, different)), sum(map(len, found[1]))))
        return found

    trainer._generate = count
    seconds = time_steps(trainer, params, work)
    prompt, completion = (sum(part) for part in zip(*lengths[1:], strict=True))
    body, head = count_parameters(trainer.model)
    # Sampled (2), read by the reference (2), learnt from (6).
    operations = 10 * (body * (prompt + completion) + head * completion)
    return {"tokens": completion, "seconds": seconds, "operations": operations}


def pick(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Returns the options of these names."""
    return {name: options[name] for name in names}


def only(way: str) -> dict[str, Any]:
    """Returns what is set in stock TRL besides what the work says."""
    return {"save_strategy": "no"} | ({"bf16": False} if way == "stock, float32" else {})


def count_parameters(model: Any) -> tuple[int, int]:
    """Returns how many parameters the layers have, and the vocabulary's."""
    head = model.get_output_embeddings().weight.numel()
    return sum(weight.numel() for weight in model.parameters()) - head, head


def time_steps(trainer: Any, params: Any, work: Path) -> float:
    """Returns the seconds of all steps but the first."""
    from transformers import TrainerCallback

    from stages.sft.training import train

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers' callbacks are untyped
        def on_step_end(self, *arguments: Any, **options: Any) -> None:
            del arguments, options
            ends.append(time.perf_counter())

    trainer.add_callback(Clock())
    if hasattr(trainer, "witness"):
        train(trainer, trainer.witness, params, work)
    else:
        trainer.train()
    return ends[-1] - ends[0]


def measure(stage: str, way: str, changes: dict[str, Any]) -> dict[str, float]:
    """Returns what a way of doing a stage's work does, in this process.

    Args:
        stage: generate, sft or grpo.
        way: one of WAYS.
        changes: of the stage's parameters.
    """
    if way == BFLOAT16:
        way, changes = WAYS[0], changes | {"dtype": "bfloat16", "cpu_isa": "native"}
    params = load(PARAMS, stage)
    sections = {
        k: replace(getattr(params, k), **v) for k, v in changes.items() if isinstance(v, dict)
    }
    params = replace(params, **changes | sections)
    if way != "stage":  # the machine's own instructions, and as many threads as the stage
        import torch

        torch.set_num_threads(params.num_threads)
    else:
        set_environment(stage, params)
        if stage == "generate":
            from stages.generate.engine import prepare_environment

            prepare_environment(params.num_threads, params.cpu_isa)
    with tempfile.TemporaryDirectory() as folder:
        if stage == "sft":
            result = train_sft(way, params, Path(folder))
        elif stage == "grpo":
            result = train_grpo(way, params, Path(folder))
        else:
            result = sample(way, params)
    return result | {"peak": measure_peak(params.num_threads)}


def measure_apart(stage: str, way: str, changes: dict[str, Any]) -> dict[str, float]:
    """Returns what `measure` does in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.stock", stage, way, json.dumps(changes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    line = next(x for x in done.stdout.splitlines() if x.startswith('{"measured"'))
    found: dict[str, float] = json.loads(line)["measured"]
    return found


def main() -> None:
    """Prints a table of rates and of their ratios to the stock library's."""
    if len(sys.argv) > 1:
        measured = measure(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
        print(json.dumps({"measured": measured}), flush=True)
        return
    print("| work | way | tokens/s | % of peak | stock's time / this |\n|---|---|---:|---:|---:|")
    for name, (stage, ways, changes) in WORK.items():
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(NUM_ROUNDS):
            for way, values in found.items():
                values.append(measure_apart(stage, way, changes))
        for way, values in found.items():
            print(show(name, way, values, found["stock"]), flush=True)


def show(name: str, way: str, values: list[dict[str, float]], stock: list[dict[str, float]]) -> str:
    """Returns a row of the table."""
    rates = [value["tokens"] / value["seconds"] for value in values]
    ratios = [
        rate / (other["tokens"] / other["seconds"])
        for rate, other in zip(rates, stock, strict=True)
    ]
    shares = [
        100 * value["operations"] / value["seconds"] / value["peak"]
        for value in values
        if "operations" in value
    ]
    share = f"{fmean(shares):.0f}" if shares else "–"
    error = stdev(ratios) / len(ratios) ** 0.5
    return f"| {name} | {way} | {max(rates):.0f} | {share} | {fmean(ratios):.2f} ± {error:.2f} |"


if __name__ == "__main__":
    main()
