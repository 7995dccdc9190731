"""The data set card, in the form that the Hugging Face hub reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_CARD = """\
---
task_categories:
- text-generation
tags:
- reasoning
- synthetic
configs:
- config_name: default
  data_files:
  - split: train
    path: train.jsonl
---
# Verified reasoning traces

Made by the stages `generate` and `filter` of Rederive: a model wrote {num_generated} traces for
{num_prompts} problems; those in the response format whose answer math-verify found equal to the
reference were kept, {num_kept} traces for {num_prompts_kept} problems. They are unedited.{others}

`train.jsonl`: `prompt` and `completion` (messages), `answer` (the reference), `id` and `task` of
the problem, and `sample`, the trace's number. `rejects.jsonl`: the others, with a reason each.
`prompts.jsonl`: the {num_prompts_in_band} problems that are neither too hard nor too easy.

| reason | traces |
|---|---|
{table}

The problems' own licences are those of their sources (see `prompts` in params.yaml), and the
traces' that of the model that wrote them (see `generate.model`). A right answer does not show that
the steps before it are right.
"""


def write_card(path: Path, metrics: dict[str, Any]) -> None:
    """Writes the card; it holds no date, so that its bytes depend on the data alone."""
    table = "\n".join(f"| {reason} | {number} |" for reason, number in metrics["rejects"].items())
    others = ""
    if metrics["num_prompts_verified"] < metrics["num_prompts"]:
        number = metrics["num_prompts"] - metrics["num_prompts_verified"]
        others += f"\n{number} of the problems have no reference: theirs are judged by form alone."
    for source, number in metrics["mixed"].items():
        others += f"\n{number} rows of `{source}` follow."
    path.write_text(_CARD.format(table=table, others=others, **metrics), encoding="utf-8")
