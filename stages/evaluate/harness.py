"""Hands one task and one model to lm-eval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import datasets
import lm_eval
from lm_eval.tasks import TaskManager

from stages.generate.engine import engine_kwargs

if TYPE_CHECKING:
    from pathlib import Path

    from stages.evaluate.backend import SeededVLLM
    from stages.evaluate.params import EvaluateParams
    from stages.evaluate.tasks.scoring import Scorer


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """What lm-eval returned: the responses by problem id, and the metrics that it computed."""

    responses: dict[str, list[str]]
    metrics: dict[str, float]


def load_task(
    config: dict[str, Any], scorer: Scorer, problems: Path, cache: Path
) -> dict[str, Any]:
    """Returns what `lm_eval.evaluate` takes as a task: the configuration with its data.

    Args:
        config: as `read_task` returns it.
        scorer: as `load_scorer` returns it.
        problems: the JSONL file to ask.
        cache: a folder for what `datasets` makes of it.
    """
    datasets.disable_progress_bars()
    text = datasets.Value("string")
    # Said explicitly: the JSON reader takes a text that looks like a date for a time stamp.
    features = {
        **dict.fromkeys(("id", "task", "answer", *scorer.columns), text),
        "prompt": datasets.List({"role": text, "content": text}),
    }
    filled = {
        **config,
        "process_results": scorer.process_results,
        "dataset_kwargs": {
            "data_files": {"test": str(problems)},
            "features": datasets.Features(features),
            "cache_dir": str(cache),
        },
    }
    if "process_docs" in config:
        filled["process_docs"] = scorer.process_docs
    # Only this task: indexing lm-eval's own ones reads thousands of files.
    return dict(TaskManager(include_defaults=False).load([filled]))


def load_model(
    params: EvaluateParams,
    folder: Path,
    conversations: dict[str, list[dict[str, str]]],
    max_gen_toks: int,
) -> SeededVLLM:
    """Returns the model as lm-eval takes it, ready for the problems.

    Args:
        params: the engine's options and the seed.
        folder: the model's.
        conversations: as `read_conversations` returns them.
        max_gen_toks: how many tokens a response may have.

    Raises:
        ValueError: a prompt is too long for the context, or occurs twice.
    """
    from stages.evaluate.backend import SeededVLLM  # noqa: PLC0415 - imports vllm, which is slow

    kwargs = engine_kwargs(params.engine, folder)
    model = SeededVLLM(pretrained=kwargs.pop("model"), seed=params.seed, **kwargs)
    model.expect(conversations, max_gen_toks, params.seed)
    return model


def read_conversations(
    task: dict[str, Any], system_instruction: str | None
) -> dict[str, list[dict[str, str]]]:
    """Returns what lm-eval is going to ask, as messages by problem id: `doc_to_text`, filled in."""
    (loaded,) = task["tasks"].values()
    system = [{"role": "system", "content": system_instruction}] if system_instruction else []
    return {
        doc["id"]: [*system, {"role": "user", "content": loaded.doc_to_text(doc)}]
        for doc in loaded.test_docs()
    }


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
