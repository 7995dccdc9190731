"""Hands one task and one model to lm-eval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import datasets
import lm_eval
from lm_eval.tasks import TaskManager

from stages.evaluate.tasks.scoring import process_results
from stages.generate.engine import engine_kwargs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stages.evaluate.backend import SeededVLLM
    from stages.evaluate.params import EvaluateParams

Row = dict[str, Any]

# Said explicitly: the JSON reader takes a text that looks like a date for a time stamp.
_FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "task": datasets.Value("string"),
        "prompt": datasets.List(
            {"role": datasets.Value("string"), "content": datasets.Value("string")}
        ),
        "answer": datasets.Value("string"),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """What lm-eval returned: the responses by problem id, and the metrics that it computed."""

    responses: dict[str, list[str]]
    metrics: dict[str, float]


def load_task(config: dict[str, Any], problems: Path, cache: Path) -> dict[str, Any]:
    """Returns what `lm_eval.evaluate` takes as a task: the configuration with its data.

    Args:
        config: as `read_task` returns it.
        problems: the JSONL file to ask.
        cache: a folder for what `datasets` makes of it.
    """
    datasets.disable_progress_bars()
    filled = {
        **config,
        "process_results": process_results,
        "dataset_kwargs": {
            "data_files": {"test": str(problems)},
            "features": _FEATURES,
            "cache_dir": str(cache),
        },
    }
    # Only this task: indexing lm-eval's own ones reads thousands of files.
    return dict(TaskManager(include_defaults=False).load([filled]))


def load_model(
    params: EvaluateParams, folder: Path, rows: Sequence[Row], max_gen_toks: int
) -> SeededVLLM:
    """Returns the model as lm-eval takes it, ready for the problems.

    Raises:
        ValueError: a prompt is too long for the context, or occurs twice.
    """
    from stages.evaluate.backend import SeededVLLM  # noqa: PLC0415 - imports vllm, which is slow

    kwargs = engine_kwargs(params.engine, folder)
    model = SeededVLLM(pretrained=kwargs.pop("model"), seed=params.seed, **kwargs)
    model.expect({row["id"]: row["prompt"] for row in rows}, max_gen_toks, params.seed)
    return model


def ask(
    model: Any, task: dict[str, Any], system_instruction: str | None, numbers: list[int]
) -> Evaluated:
    """Returns the model's responses to problems, zero-shot, in its own chat template.

    Args:
        model: an `lm_eval.api.model.LM`.
        task: as `load_task` returns it.
        system_instruction: the system prompt.
        numbers: which problems are asked, counted from 0 in the file.
    """
    (name,) = task["tasks"]
    # Not simple_evaluate: that also collects facts about the machine, with git and pip.
    evaluated = lm_eval.evaluate(
        model,
        task,
        samples={name: numbers},
        system_instruction=system_instruction,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
    )
    (samples,), (metrics,) = evaluated["samples"].values(), evaluated["results"].values()
    return Evaluated(
        responses={sample["doc"]["id"]: sample["resps"][0] for sample in samples},
        metrics={
            key.removesuffix(",all"): value
            for key, value in metrics.items()
            if key.endswith(",all")
        },
    )
