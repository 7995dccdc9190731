"""Rewards of programs by the tests that they pass, each run in a sandbox of its own.

The columns are Open-R1's; so is the share of passed tests as the value. What comes out of the
sandbox is compared here: the expected outputs never enter it, so that a program can neither read
them nor patch what compares. Deviations from Open-R1, each with a test:

1. All lines of the output count: Open-R1 zips the lines, and a prefix of the expected output, or
   nothing after it, passes. White space at the end of lines and of the output is ignored, at their
   beginning it is not.
2. Code counts only after the last `</think>`: a draft in the reasoning is not an answer.
3. A program that hits a time limit fails that test and those after it. In Open-R1 the exception
   ends the script, and the earlier tests are lost too. Time is CPU time.
4. Tests of type "function_call", which Open-R1 feeds to stdin, call the function.
5. Python programs have the standard library only; E2B's sandbox had numpy and others.
6. A row without tests, or whose tests cannot be read, has no verdict (None), and an error of the
   sandbox stops the run: Open-R1 gives the whole batch 0.0.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from stages.filter.verify import after_thought
from stages.grpo.rewards.completions import Completions, Prompts, read_texts
from stages.grpo.rewards.sandbox import (
    BOX,
    DEFAULT_LIMITS,
    LANGUAGES,
    NUM_PARALLEL,
    Limits,
    Program,
    Result,
    compile_cpp,
    cpp_program,
    map_parallel,
    python_program,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_BINARY_THRESHOLD = 0.99  # Open-R1's

# What is printed goes nowhere, and nothing can be read. The value comes back on a descriptor of its
# own, with a number that only this call has. The names are bound before the program can patch them.
_CALLER = f"""
import builtins, json, os, sys
builtins.exit = builtins.quit = sys.exit
dumps, write, leave = json.dumps, os.write, os._exit
task = json.load(sys.stdin)
channel = os.dup(1)
null = os.open("/dev/null", os.O_RDWR)
os.dup2(null, 0)
os.dup2(null, 1)
module = sys.modules["solution"] = type(sys)("solution")
with open("{BOX}/main.py", "rb") as file:
    code = compile(file.read(), "main.py", "exec")
exec(code, module.__dict__)
function = getattr(module, task["name"], None)
if function is None:
    function = getattr(module.Solution(), task["name"])
text = dumps([task["nonce"], function(*task["arguments"])]).encode()
while text:
    text = text[write(channel, text):]
leave(0)
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A test: the output that belongs to an input, or to a call if there is a function's name."""

    given: object
    expected: object
    function: str | None = None


def code_reward(
    completions: Completions,
    *,
    verification_info: Sequence[object],
    prompts: Prompts | None = None,
    num_parallel: int = NUM_PARALLEL,
    limits: Limits = DEFAULT_LIMITS,
    **columns: object,
) -> list[float | None]:
    """Returns the share, 0 to 1, of the tests that the completion's program passes.

    Completions without a fenced block of the language, and programs that do not compile, get 0.0.

    Args:
        verification_info: per completion, as a dict or as JSON text: "language" ("python" or
            "cpp") and "test_cases", a list of {"type", "input", "output"}. With type
            "stdin_stdout" both are text. With "function_call" there is "fn_name" too, "input" is
            a list or one JSON argument per line, and "output" is JSON text or a value.
        num_parallel: how many sandboxes there may be at once.
        limits: of a test.

    Raises:
        ValueError: the language or a test's type is not one of those.
    """
    del columns
    texts = read_texts(completions, prompts)
    items = list(zip(texts, map(_read_info, verification_info), strict=True))
    return map_parallel(partial(_score, limits), items, num_parallel)


def binary_code_reward(
    completions: Completions,
    *,
    verification_info: Sequence[object],
    prompts: Prompts | None = None,
    num_parallel: int = NUM_PARALLEL,
    limits: Limits = DEFAULT_LIMITS,
    **columns: object,
) -> list[float | None]:
    """Returns 1.0 where `code_reward` is above 0.99, else 0.0, and None where it is None."""
    rewards = code_reward(
        completions,
        verification_info=verification_info,
        prompts=prompts,
        num_parallel=num_parallel,
        limits=limits,
        **columns,
    )
    return [None if reward is None else float(reward > _BINARY_THRESHOLD) for reward in rewards]


def extract_code(text: str, language: str = "python") -> str:
    """Returns the last fenced block of the language after the last `</think>`, or "".

    The tag of the fence is the language's name exactly, as in Open-R1. Text whose last think block
    is not closed has no code.
    """
    answer = after_thought(text) or ""
    code, start = "", None
    # One pass: a lazy pattern for whole blocks would look for a missing end again and again.
    for fence in re.finditer(rf"```(?:{re.escape(language)}[ \t\r]*\n)?", answer):
        if start is not None:
            code, start = answer[start : fence.start()], None
        elif fence[0] != "```":
            start = fence.end()
    return code


def build(language: str, source: str) -> Callable[[bytes, Limits], Program] | None:
    """Returns what makes the program for an input, compiled once, or None if it does not."""
    if language == "python":
        return partial(python_program, source)
    binary = compile_cpp(source)
    return None if binary is None else partial(cpp_program, binary)


def count_passed(
    tests: Iterable[tuple[Program, Callable[[Result], bool]]], *, all_or_nothing: bool = False
) -> int:
    """Returns how many of the tests pass, run one after the other.

    The first that hits a time limit is the last that is run: a program that never ends would
    otherwise take the limit times the number of tests. With `all_or_nothing`, so is the first that
    fails.
    """
    num = 0
    for program, is_passed in tests:
        result = run(program)
        if result.reason == "ok" and is_passed(result):
            num += 1
        elif all_or_nothing or result.reason in {"cpu", "wall"}:
            break
    return num


def is_same_output(expected: str, result: Result) -> bool:
    """Returns whether stdout has the expected lines, but for white space at their ends."""
    return _lines(result.stdout.decode(errors="surrogateescape")) == _lines(expected)


def is_same_value(expected: object, value: object) -> bool:
    """Returns whether two JSON values are equal: true is not 1, 1 is 1.0, NaN equals nothing."""
    if isinstance(expected, bool) or isinstance(value, bool):
        return expected is value
    if isinstance(expected, list) and isinstance(value, list):
        pairs = zip(expected, value, strict=False)
        return len(expected) == len(value) and all(is_same_value(a, b) for a, b in pairs)
    if isinstance(expected, dict) and isinstance(value, dict):
        keys = expected.keys()
        return keys == value.keys() and all(is_same_value(expected[k], value[k]) for k in keys)
    return expected == value


def read_json(value: object) -> object:
    """Returns the value of a column that may be JSON text, or None if that cannot be parsed."""
    if not isinstance(value, str):
        return value
    try:
        parsed: object = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return parsed


def _score(limits: Limits, item: tuple[str, tuple[str, list[Case]] | None]) -> float | None:
    text, info = item
    if info is None:
        return None
    language, cases = info
    source = extract_code(text, language)
    make = build(language, source) if source else None
    if make is None:
        return 0.0
    tests = (_make_test(make, source, case, limits) for case in cases)
    return count_passed(tests) / len(cases)


def _make_test(
    make: Callable[[bytes, Limits], Program], source: str, case: Case, limits: Limits
) -> tuple[Program, Callable[[Result], bool]]:
    if case.function is None:
        stdin, expected = str(case.given).encode(errors="replace"), str(case.expected)
        return make(stdin, limits), partial(is_same_output, expected)
    nonce = secrets.token_hex(16)
    task = json.dumps({"name": case.function, "arguments": case.given, "nonce": nonce})
    program = python_program(source, task.encode(), limits, launcher=_CALLER)
    return program, partial(_is_returned, nonce, case.expected)


def _is_returned(nonce: str, expected: object, result: Result) -> bool:
    returned = read_json(result.stdout.decode(errors="replace"))
    return is_same_value([nonce, expected], returned)


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _read_info(column: object) -> tuple[str, list[Case]] | None:
    info = read_json(column)
    if not isinstance(info, dict):
        return None
    language = info.get("language")
    if language not in LANGUAGES:
        raise ValueError(
            f"verification_info['language'] must be one of {', '.join(LANGUAGES)}, not "
            f"{language!r}: drop such rows from the data set"
        )
    tests = read_json(info.get("test_cases"))
    if not isinstance(tests, list) or not tests:
        return None
    cases = [_read_case(test, language) for test in tests]
    known = [case for case in cases if case is not None]
    return (language, known) if len(known) == len(cases) else None


def _read_case(test: object, language: str) -> Case | None:
    if not isinstance(test, dict):
        return None
    given, expected = test.get("input"), test.get("output")
    kind = test.get("type") or "stdin_stdout"
    if kind == "stdin_stdout":
        is_text = isinstance(given, str) and isinstance(expected, str)
        return Case(given, expected) if is_text else None
    if kind != "function_call" or language != "python":
        raise ValueError(
            f"verification_info['test_cases'] has a test of type {kind!r} for {language}: it must "
            f"be 'stdin_stdout', or 'function_call' for python; drop such rows from the data set"
        )
    function = test.get("fn_name")
    if not isinstance(function, str):
        return None
    try:
        if isinstance(given, str):
            given = [json.loads(line) for line in given.split("\n") if line.strip()]
        if isinstance(expected, str):
            expected = json.loads(expected)
    except (ValueError, RecursionError):
        return None
    return Case(given, expected, function) if isinstance(given, list) else None
