"""What cards say in words, by the stage that made the artifact; numbers come from the record."""

from __future__ import annotations

CARD = """\
# Rederive: {name}

{about}

Made by Rederive's stage `{stage}` (run `{run}`), a step of a recipe that re-derives
[DeepSeek-R1](https://arxiv.org/abs/2501.12948) in the open, to be reproduced and audited.

{use}

{results}

## What was measured while it was made

```yaml
{measured}
```

## Where it comes from

| artifact | stage | seed | commit that ran | DVC's md5 |
|---|---|---:|---|---|
{lineage}

{environment}

The record is commit `{commit}`. `provenance/` holds the manifests of these runs, with the sha256 of
all that each read and wrote, the locks and the parameters. `sha256sum -c provenance/SHA256SUMS`
checks the files here. In its manifest the folder has the digest `{digest}`:
that of `sha256sum`'s sorted list, in which a README.md is the stage's own, here in `provenance/`.

| from outside | origin | licence |
|---|---|---|
{sources}

## How to make it again

```sh
git clone {repository} rederive && cd rederive && git checkout {commit}
python3 -m pip install nox && python3 -m nox -s repro -- {target}
.venv/bin/python -m stages verify
```

The last line says whether the bytes are these: `dvc.lock` has `{md5}`. REPRODUCE.md says on which
machines they are.

## Parameters

```yaml
{params}
```

## Limits and biases

{limits}

## Licence

{licence}. What it was made from is listed above, with its licence where that is known.
"""

ABOUT = {
    "fetch": "The base model of the recipe, as its pinned source has it, as safetensors.",
    "sft": "A language model, fine-tuned on reasoning traces.",
    "grpo": "A language model, trained by reinforcement learning on rewards that rules can verify.",
    "preference": "A reward model: it says which of two responses is better.",
    "prompts": "Problems: for training, for reinforcement learning and for evaluation, kept apart.",
    "generate": "Reasoning traces that a model wrote, right and wrong ones.",
    "filter": "Reasoning traces that were kept, and the others with a reason each.",
}

_MODEL_USE = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{address}")
tokenizer = AutoTokenizer.from_pretrained("{address}")
```"""
_DATA_USE = """\
```python
from datasets import load_dataset

data = load_dataset("{address}", "{config}")
```"""
USE = {
    "fetch": _MODEL_USE,
    "sft": _MODEL_USE,
    "grpo": _MODEL_USE,
    "preference": _MODEL_USE.replace("ForCausalLM", "ForSequenceClassification"),
    "prompts": _DATA_USE,
    "generate": _DATA_USE,
    "filter": _DATA_USE,
}

_MODEL_LIMITS = """\
- It was trained and measured on the tasks that are named here alone; of anything else nothing is
  known, nor of other languages.
- Nothing was measured of safety, toxicity or bias, unless a task above says so. It has whatever
  biases its base model and its data have.
- What a checkpoint gains over another depends on the seed: one run says little.
- Right answers do not show that the reasoning before them is right.
- It is not meant for use by people or in products."""
_DATA_LIMITS = """\
- The problems are few kinds of narrow tasks; a model that learns from them learns these.
- Nothing was done about biases or unsafe content of the sources, nor was any measured."""
_TRACE_LIMITS = """\
- The traces are a model's words, unedited: they have its errors and biases. A right answer does not
  show that the steps before it are right."""
LIMITS = {
    "fetch": """\
- This is another's model, in another file format: its authors' card says what it is for, and what
  its biases are.
- Values that were quantised at the source stay as coarse as they were there.""",
    "sft": _MODEL_LIMITS,
    "grpo": _MODEL_LIMITS
    + "\n- It was trained to get rewards: what the rewards do not ask for may have become worse.",
    "preference": """\
- It has learned the preferences of few pairs, and what else these had in common, such as length.
- It says which response is preferred, not what is true. Nothing was measured of its biases.""",
    "prompts": _DATA_LIMITS,
    "generate": f"{_DATA_LIMITS}\n{_TRACE_LIMITS}",
    "filter": f"{_DATA_LIMITS}\n{_TRACE_LIMITS}",
}
