"""Scores IFEval: does a response follow instructions that a program can check?

lm-eval's own checkers (Zhou et al. 2023, arXiv:2311.07911), on what follows the thought. A response
is right if it follows all of its instructions, strictly; R1 reports that ("prompt strict").

1. lm-eval seeds neither langdetect nor the checkers that draw what an instruction does not say:
   here both start from the same seed for each response, strictly and loosely.
2. It downloads nltk's punkt_tab when it is imported. Here it must be installed, and only problems
   that count sentences, or words in capitals, ask for it.
"""

from __future__ import annotations

import json
import os
import random
from statistics import fmean
from typing import TYPE_CHECKING, Any
from unittest import mock

import nltk

from stages.evaluate.tasks.scoring import Measures, Problem, Row, Scorer
from stages.filter.verify import after_thought

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_COLUMNS = ("instruction_id_list", "kwargs")
_PUNKT = {"length_constraints:number_sentences", "change_case:capital_word_frequency"}

with mock.patch.dict(os.environ, {"LOCAL_RANK": "1"}):  # only rank 0 downloads
    import langdetect
    from lm_eval.tasks.ifeval import instructions_registry, utils


def read(text: str) -> str | None:
    """Returns what follows the thought, or None if that is nothing."""
    return (after_thought(text) or "").strip() or None


def judge(answers: Sequence[str], problem: Problem) -> list[bool]:
    """Returns whether each response follows all instructions, strictly."""
    example, strict = _example(problem), utils.test_instruction_following_strict
    return [_check(strict, example, answer).follow_all_instructions for answer in answers]


def prepare(problem: Problem) -> Problem:
    """Returns the problem.

    Raises:
        ValueError: an instruction is unknown, or needs what is not installed.
    """
    names, kwargs = (json.loads(problem[key]) for key in _COLUMNS)
    unknown = set(names) - instructions_registry.INSTRUCTION_DICT.keys()
    if unknown or not names or len(names) != len(kwargs):
        raise ValueError(
            f"instruction_id_list must name instructions of IFEval, with kwargs for each, not "
            f"{names} with {len(kwargs)}"
        )
    if _PUNKT & set(names):
        try:
            nltk.data.find("tokenizers/punkt_tab")
        except LookupError:
            raise ValueError(
                f"its instructions {names} need nltk's punkt_tab, which is not installed: "
                f"`.venv/bin/python -m nltk.downloader -d .venv/nltk_data punkt_tab`"
            ) from None
    return problem


def measure(cell: Sequence[tuple[Problem, Row]]) -> Measures:
    """Returns IFEval's three other scores: per instruction, and with loosened responses."""
    strict, loose, loose_all = [], [], []
    for problem, row in cell:
        example = _example(problem)
        for answer in row["answers"]:
            text = answer or ""
            strictly = _check(utils.test_instruction_following_strict, example, text)
            loosely = _check(utils.test_instruction_following_loose, example, text)
            strict += strictly.follow_instruction_list
            loose += loosely.follow_instruction_list
            loose_all.append(loosely.follow_all_instructions)
    return {
        "instruction_accuracy": fmean(strict),
        "instruction_accuracy_loose": fmean(loose),
        "accuracy_loose": fmean(loose_all),
    }


def _example(problem: Problem) -> Any:
    return utils.InputExample(
        key=0,
        instruction_id_list=json.loads(problem["instruction_id_list"]),
        prompt=problem["prompt"][-1]["content"],
        kwargs=json.loads(problem["kwargs"]),
    )


def _check(test: Callable[[Any, str], Any], example: Any, text: str) -> Any:
    langdetect.DetectorFactory.seed = 0
    state = random.getstate()
    random.seed(0)
    try:
        return test(example, text)
    finally:
        random.setstate(state)


SCORER = Scorer(
    read=read,
    judge=judge,
    prepare=prepare,
    columns=_COLUMNS,
    kept=_COLUMNS,
    has_reference=False,
    has_votes=False,
    measure=measure,
)
process_results = SCORER.process_results
