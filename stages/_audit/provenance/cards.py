"""A model card per checkpoint, in the form that the Hugging Face hub reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from stages._audit.published import read_json
from stages.report.table import percent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stages._audit.bisect import Run

# By folder of artifacts/: what a reader must know of the model.
MODELS = {
    "base": "SmolLM2-135M-Instruct, de-quantised from a pinned file (the stage `fetch`).",
    "sft": "`base`, fine-tuned on its own traces that were found right (the stage `sft`).",
    "grpo": "`sft`, trained by GRPO on verifiable rewards (the stage `grpo`).",
}
_TEXT = """\
# Rederive: {name}

{about} Made by a recipe that re-derives the steps of DeepSeek-R1 on a CPU; its purpose is to be
reproduced and audited. It adds small numbers, in the format `<think>…</think><answer>…</answer>`,
and is not meant for anything else.

{table}

Value ± standard error over problems, zero-shot, greedy. Commit {commit}; `artifacts/{name}` has the
folder digest `{digest}` (`sha256sum` of each file, sorted, hashed again).

- **Data.** The problems are generated (`prompts` in params.yaml), the traces are a model's own.
- **Limits.** The differences between checkpoints depend on the seed: see `docs/log.md`.
- **Licence.** Apache-2.0, as that of the base model.
"""


def make_card(root: Path, run: Run, name: str) -> ModelCard:
    """Returns the card of artifacts/<name>, with its results.

    Raises:
        ValueError: the run has no manifest of the stage that made the model.
    """
    manifest = run.read_manifest("fetch" if name == "base" else name)
    if not manifest:
        raise ValueError(f"runs/ has no manifest of {name}: run `dvc repro`")
    results: dict[str, Any] = read_json(root / "metrics/evaluate" / f"{name}.json")
    data = ModelCardData(
        model_name=f"rederive-{name}",
        license="apache-2.0",
        language="en",
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model="HuggingFaceTB/SmolLM2-135M-Instruct",
        tags=["reasoning", "reproducibility", *([name] if name != "base" else [])],
        eval_results=list_results(results),
    )
    text = _TEXT.format(
        name=name,
        about=MODELS[name],
        table=render_results(results),
        commit=manifest["commit"],
        digest=manifest["outputs"][f"artifacts/{name}"],
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


def list_results(results: Mapping[str, Mapping[str, Any]]) -> list[EvalResult]:
    """Returns the accuracies as the hub reads them, from evaluate's results by task."""
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=task,
            dataset_name=f"Rederive, {task}",
            metric_type="accuracy",
            metric_value=cell["accuracy"],
        )
        for task, cell in results.items()
    ]


def render_results(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns a Markdown table with one row per task, from evaluate's results by task."""
    lines = ["| task | % right | % in the format | problems |", "|---|---:|---:|---:|"]
    for task, cell in results.items():
        shares = [percent(cell[k], cell[f"{k}_stderr"]) for k in ("accuracy", "format_rate")]
        lines.append(f"| {task} | {' | '.join(shares)} | {cell['num_problems']} |")
    return "\n".join(lines)
