"""Scores Python programs by LiveCodeBench's tests, in the sandbox that `grpo` rewards programs in.

A program is right if it passes all tests, public and private. Deviations from LiveCodeBench's own
evaluator, each with a test:

1. The program is the last block after the thought that is fenced as Python; a fence without a
   language does not count.
2. Outputs are compared line by line, white space at the ends of lines aside; numbers are not
   compared as decimals.
3. Time is CPU time, and there are no packages but the standard library.

Private tests come as compressed pickles of one text; nothing else is unpickled.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import zlib
from typing import TYPE_CHECKING, Any

from stages.evaluate.tasks.scoring import Problem, Scorer
from stages.grpo.rewards.code import code_reward, extract_code
from stages.grpo.rewards.sandbox import check_sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS = ("metadata", "private_test_cases", "public_test_cases", "starter_code")
# LiveCodeBench puts such lines before each program: starter code names List without importing it.
_MODULES = [
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random"),
    *("statistics", "itertools", "functools", "operator", "io", "sys", "json", "builtins"),
    "typing",
]
_IMPORTS = "\n".join(
    [*(f"from {name} import *" for name in _MODULES), f"import {', '.join(_MODULES)}"]
)


class _Texts(pickle.Unpickler):
    """Unpickles texts, and refuses whatever would have to be imported."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")


def read(text: str) -> str | None:
    """Returns the program in a response, or None."""
    return extract_code(text, "python") or None


def judge(answers: Sequence[str], problem: Problem) -> list[bool]:
    """Returns whether each program passes all tests, several at once."""
    check_sandbox("python")
    tests = read_tests(problem)
    info = {"language": "python", "test_cases": tests}
    # Before a function of that name, which may be one of the imports, comes the class's method.
    names = {test["fn_name"] for test in tests if "fn_name" in test}
    end = "".join(f"if 'Solution' in globals(): {name} = Solution().{name}\n" for name in names)
    completions = [f"```python\n{_IMPORTS}\n{answer}\n{end}```" for answer in answers]
    rewards = code_reward(completions, verification_info=[info] * len(answers))
    return [reward == 1.0 for reward in rewards]


def prepare(problem: Problem) -> Problem:
    """Returns the problem. Raises ValueError if its tests cannot be read."""
    read_tests(problem)
    return problem


def read_tests(problem: Problem) -> list[dict[str, Any]]:
    """Returns the tests as `code_reward` takes them.

    Raises:
        ValueError: they are not LiveCodeBench's, or there are none.
    """
    try:
        name = json.loads(problem["metadata"] or "{}").get("func_name")
        public, private = (json.loads(_unpack(problem[key] or "[]")) for key in _COLUMNS[2:0:-1])
        tests = [
            {"type": "stdin_stdout", "input": test["input"], "output": test["output"]}
            if test["testtype"] == "stdin"
            else {"type": "function_call", "fn_name": name}
            | {k: test[k] for k in ("input", "output")}
            for test in (*public, *private)
        ]
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"its tests are not LiveCodeBench's ({error!r})") from error
    is_name = isinstance(name, str) and name.isidentifier()
    if not tests or (not is_name and any(test["type"] == "function_call" for test in tests)):
        raise ValueError("it has no tests, or tests of a function that metadata does not name")
    return tests


def _unpack(text: str) -> str | bytes:
    """Returns JSON text that may be a compressed pickle in base64."""
    if text.lstrip().startswith("["):
        return text
    try:
        packed = zlib.decompress(base64.b64decode(text, validate=True))
        value = _Texts(io.BytesIO(packed)).load()
    except (binascii.Error, zlib.error, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"neither JSON nor a pickled text: {error}") from error
    if not isinstance(value, str | bytes):
        raise ValueError(f"a pickle of {type(value).__name__}")  # noqa: TRY004
    return value


SCORER = Scorer(
    read=read,
    judge=judge,
    prepare=prepare,
    columns=_COLUMNS,
    kept=None,
    has_reference=False,
    has_votes=False,
)
process_results = SCORER.process_results
