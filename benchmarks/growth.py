"""How the stages' rates grow with batch, length and threads: `python3 -m nox -s bench -- growth`.

Each measurement is a process of its own, of the work that benchmarks/stock.py describes. The values
of a row take turns, so that a busy machine slows all; rates are the faster round's.
"""

from __future__ import annotations

from typing import Any

from benchmarks.stock import measure_apart

NUM_ROUNDS = 2
# What is changed: title, stage, key, values.
ROWS: tuple[tuple[str, str, str, tuple[Any, ...]], ...] = (
    ("requests at once", "generate", "engine.max_num_seqs", (1, 8, 32, 128)),
    ("worked examples, 75 tokens each", "generate", "num_examples", (0, 2, 4, 8)),
    ("threads", "generate", "num_threads", (1, 2)),
    ("traces per pass", "sft", "per_device_train_batch_size", (2, 4, 8, 16, 32)),
    ("threads", "sft", "num_threads", (1, 2)),
    ("completions per problem", "grpo", "num_generations", (4, 8, 16, 32)),
    ("tokens of a completion", "grpo", "max_completion_length", (16, 32, 64)),
    ("threads", "grpo", "num_threads", (1, 2)),
)


def change(key: str, value: Any) -> dict[str, Any]:
    """Returns the changes that set a key, perhaps of the engine."""
    section, _, name = key.rpartition(".")
    return {section: {name: value}} if section else {name: value}


def main() -> None:
    """Prints a table."""
    print("| stage | what | tokens/s (% of the best) |\n|---|---|---|")
    for title, stage, key, values in ROWS:
        rates = dict.fromkeys(values, 0.0)
        for _ in range(NUM_ROUNDS):
            for value in values:
                found = measure_apart(stage, "stage", change(key, value))
                rates[value] = max(rates[value], found["tokens"] / found["seconds"])
        best = max(rates.values())
        cells = [f"{value}: {rate:.0f} ({100 * rate / best:.0f})" for value, rate in rates.items()]
        print(f"| {stage} | {title}, `{key}` | {'; '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
