"""Rewards of programs for contest problems: Codeforces' and the IOI's, without a Piston server.

Columns and values are those of Open-R1's data sets open-r1/codeforces and open-r1/ioi. Everything
that is run, a problem's checker too, is run in a sandbox; limits and comparison are `code.py`'s.
Deviations from Open-R1, each with a test:

1. A row without tests or language has no verdict (None). Open-R1 takes a row without a language for
   one without a submission, and an error of a worker for a wrong answer.
2. A program that hits the time limit fails the tests after it too.
3. In IOI problems, several subtasks can be scored at once, by their points; and a completion
   without code is not compiled: Open-R1 adds its includes to nothing and grades the result.
4. What Open-R1 downloads or leaves to Piston is an error that names the column: interactive
   problems, input from files, graders, tests that are not in the row.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from stages.grpo.rewards.code import (
    build,
    count_passed,
    extract_code,
    is_same_output,
    read_json,
)
from stages.grpo.rewards.completions import Completions, Prompts, read_texts
from stages.grpo.rewards.sandbox import (
    BOX,
    DEFAULT_LIMITS,
    LANGUAGES,
    NUM_PARALLEL,
    Limits,
    Result,
    map_parallel,
    python_program,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ScoringMode = Literal["pass_fail", "partial", "weighted_sum"]
Tests = list[tuple[str, str]]  # inputs and outputs

# Open-R1's score_submission.
NO_SUBMISSION_REWARD = -1.0
NO_COMPILE_REWARD = -0.1
_PARTIAL_WEIGHT = 0.1

_MIB = 1 << 20
_MEMORY_OVERHEAD = 256 * _MIB  # the limit is on address space, of which libraries take some
_CHECKER_LIMITS = Limits.of_cpu(10.0)


def cf_code_reward(
    completions: Completions,
    *,
    official_tests: Sequence[object],
    language: Sequence[str | None],
    generated_tests: Sequence[object] | None = None,
    generated_checker: Sequence[str | None] | None = None,
    time_limit: Sequence[object] | None = None,
    memory_limit: Sequence[object] | None = None,
    prompts: Prompts | None = None,
    scoring_mode: ScoringMode = "weighted_sum",
    num_parallel: int = NUM_PARALLEL,
    limits: Limits = DEFAULT_LIMITS,
    **columns: object,
) -> list[float | None]:
    """Returns the scores of programs for Codeforces problems.

    The score is 1.0 or 0.0 for all tests (`pass_fail`), the share of passed tests (`partial`), or
    the one plus 0.1 x the other (`weighted_sum`, 0 to 1.1); -0.1 for a program that does not
    compile, -1.0 for a completion without code.

    Args:
        official_tests: per completion, as a list or as JSON text: {"input", "output"}.
        language: "python" or "cpp", the fence's tag too.
        generated_tests: more of them.
        generated_checker: a Python program that prints 1 for a correct output. Its arguments are
            files: the input, a correct output, the program's output.
        time_limit: CPU seconds per test, a number or JSON text; None: that of `limits`.
        memory_limit: MB; None: that of `limits`.
        scoring_mode: as above.
        num_parallel: how many sandboxes there may be at once.
        limits: of a test, where the row has none.

    Raises:
        ValueError: a mode or language is unknown, or a problem needs what is not supported.
    """
    if scoring_mode not in get_args(ScoringMode):
        raise ValueError(
            f"scoring_mode must be one of {', '.join(get_args(ScoringMode))}, not {scoring_mode!r}"
        )
    texts = read_texts(completions, prompts)
    num = len(texts)
    for name in ("interaction_format", "input_mode"):
        for value in _column(columns.get(name), name, num):
            if value not in (None, "", "stdio"):
                raise ValueError(_unsupported(name, value))
    official = _column(official_tests, "official_tests", num)
    generated = _column(generated_tests, "generated_tests", num)
    tests = [
        _read_tests(first, "official_tests") + _read_tests(more, "generated_tests")
        for first, more in zip(official, generated, strict=True)
    ]
    languages = [_check_language(value) for value in _column(language, "language", num)]
    by_row = _read_limits(time_limit, memory_limit, limits, num, _MIB)
    checkers = _column(generated_checker, "generated_checker", num)
    items = list(zip(texts, languages, tests, by_row, checkers, strict=True))
    return map_parallel(partial(_score_codeforces, scoring_mode), items, num_parallel)


def ioi_code_reward(
    completions: Completions,
    *,
    test_cases: Sequence[object],
    test_names: Sequence[object] | None = None,
    subtasks: Sequence[object] | None = None,
    time_limit: Sequence[object] | None = None,
    memory_limit: Sequence[object] | None = None,
    prompts: Prompts | None = None,
    num_parallel: int = NUM_PARALLEL,
    limits: Limits = DEFAULT_LIMITS,
    **columns: object,
) -> list[float | None]:
    """Returns the share, 0 to 1, of the points of those subtasks all of whose tests pass.

    Programs are C++, with Open-R1's includes. Completions without code, and programs that do not
    compile, get 0.0.

    Args:
        test_cases: per completion, as a value or as JSON text: a list of [input, output] or of
            {"input", "output"}, or a dict of them by name.
        test_names: the names of the tests in a list, else "0", "1", ....
        subtasks: a list of {"score", "test_names"}, the points and the tests. If None, the row is
            one subtask, as in open-r1/ioi, and the value 1.0 or 0.0.
        time_limit: CPU seconds per test, a number or JSON text; None: that of `limits`.
        memory_limit: bytes; None: that of `limits`.
        num_parallel: how many sandboxes there may be at once.
        limits: of a test, where the row has none.

    Raises:
        ValueError: a problem needs a grader or has no tests in the row, or a subtask is wrong.
    """
    texts = read_texts(completions, prompts)
    num = len(texts)
    for files in _column(columns.get("grader_files"), "grader_files", num):
        if files not in (None, "", [], "[]"):
            raise ValueError(_unsupported("grader_files", files))
    cases = _column(test_cases, "test_cases", num)
    names = _column(test_names, "test_names", num)
    tests = [_read_named_tests(*row) for row in zip(cases, names, strict=True)]
    parts = [
        _read_subtasks(part, list(named))
        for part, named in zip(_column(subtasks, "subtasks", num), tests, strict=True)
    ]
    by_row = _read_limits(time_limit, memory_limit, limits, num, 1)
    items = list(zip(texts, tests, parts, by_row, strict=True))
    return map_parallel(_score_ioi, items, num_parallel)


def add_includes(code: str) -> str:
    """Returns the code with the header and the namespace that models forget, as Open-R1 does."""
    namespace = "" if "using namespace std;" in code else "using namespace std;\n"
    return f"#include <bits/stdc++.h>\n{namespace}{code}"


def _score_codeforces(
    mode: ScoringMode, item: tuple[str, str | None, Tests, Limits, object]
) -> float | None:
    text, language, tests, limits, checker = item
    if not tests or language is None:
        return None
    code = extract_code(text, language)
    if not code:
        return NO_SUBMISSION_REWARD
    make = build(language, code)
    if make is None:
        return NO_COMPILE_REWARD
    num = count_passed(
        (
            (make(given.encode(errors="replace"), limits), _make_check(given, expected, checker))
            for given, expected in tests
        ),
        all_or_nothing=mode == "pass_fail",
    )
    share, is_passed = num / len(tests), float(num == len(tests))
    if mode == "weighted_sum":
        return is_passed + _PARTIAL_WEIGHT * share
    return share if mode == "partial" else is_passed


def _score_ioi(
    item: tuple[str, dict[str, tuple[str, str]], list[tuple[float, list[str]]], Limits],
) -> float | None:
    text, tests, subtasks, limits = item
    total = sum(points for points, _ in subtasks)
    if not tests or not total:
        return None
    code = extract_code(text, "cpp")
    make = build("cpp", add_includes(code)) if code else None
    if make is None:
        return 0.0
    verdicts: dict[str, bool] = {}  # subtasks share tests

    def is_passed(name: str) -> bool:
        if name not in verdicts:
            given, expected = tests[name]
            program = make(given.encode(errors="replace"), limits)
            verdicts[name] = count_passed([(program, partial(is_same_output, expected))]) == 1
        return verdicts[name]

    return sum(points for points, names in subtasks if all(map(is_passed, names))) / total


def _make_check(given: str, expected: str, checker: object) -> Callable[[Result], bool]:
    if not checker:
        return partial(is_same_output, expected)

    def is_accepted(result: Result) -> bool:
        files = {
            "input.txt": given.encode(errors="replace"),
            "correct_output.txt": expected.encode(errors="replace"),
            "solution_output.txt": result.stdout,
        }
        program = python_program(
            str(checker),
            limits=_CHECKER_LIMITS,
            arguments=tuple(f"{BOX}/{name}" for name in files),
            files=tuple(files.items()),
        )
        verdict = run(program)
        return verdict.reason == "ok" and verdict.stdout.strip() in {b"1", b"1.0"}

    return is_accepted


def _column(values: object, name: str, num: int) -> list[object]:
    """Returns the values of a column, all None if the data set has none."""
    if values is None:
        return [None] * num
    if not isinstance(values, list | tuple) or len(values) != num:
        raise ValueError(
            f"column {name!r} must be a list of one value for each of {num} completions, not "
            f"{values!r:.80}"
        )
    return list(values)


def _check_language(language: object) -> str | None:
    if language is None:
        return None
    if not isinstance(language, str) or language not in LANGUAGES:
        raise ValueError(
            f"column 'language' must be one of {', '.join(LANGUAGES)}, not {language!r}: drop such "
            f"rows from the data set"
        )
    return language


def _read_limits(
    time_limit: object, memory_limit: object, default: Limits, num: int, unit: int
) -> list[Limits]:
    seconds = _column(time_limit, "time_limit", num)
    memories = _column(memory_limit, "memory_limit", num)
    limits = []
    for time_value, memory_value in zip(seconds, memories, strict=True):
        cpu_s = _read_positive(time_value, "time_limit", default.cpu_s)
        memory = unit * _read_positive(memory_value, "memory_limit", default.memory_bytes / unit)
        num_bytes = int(memory) + _MEMORY_OVERHEAD
        limits.append(Limits.of_cpu(cpu_s, num_bytes))
    return limits


def _read_positive(value: object, name: str, default: float) -> float:
    if value is None:
        return default
    number = read_json(value)
    if not isinstance(number, int | float) or not 0 < number < math.inf:
        raise ValueError(f"column {name!r} must be a number > 0 or null, not {value!r}")
    return float(number)


def _read_tests(column: object, name: str) -> Tests:
    value = read_json(column)
    if isinstance(value, int) and value:
        # open-r1/codeforces counts them here, and keeps them in files of their own.
        raise ValueError(_unsupported(name, value))
    if not isinstance(value, list):
        return []
    return [_read_test(test, name) for test in value]


def _read_test(test: object, name: str) -> tuple[str, str]:
    pair = [test.get("input"), test.get("output")] if isinstance(test, dict) else test
    match pair:
        case [str(given), str(expected)]:
            return given, expected
    raise ValueError(
        f"column {name!r} must hold tests of an input and an output, both text, not {test!r:.80}: "
        f"correct it, or drop such rows from the data set"
    )


def _read_named_tests(column: object, column_of_names: object) -> dict[str, tuple[str, str]]:
    value, names = read_json(column), read_json(column_of_names)
    if value is None:
        raise ValueError(_unsupported("test_cases", None))
    if isinstance(value, dict):
        return {str(name): _read_test(test, "test_cases") for name, test in value.items()}
    tests = _read_tests(value, "test_cases")
    if not isinstance(names, list):
        names = [str(number) for number in range(len(tests))]
    if len(names) != len(tests):
        raise ValueError(f"column 'test_names' has {len(names)} names for {len(tests)} test_cases")
    return dict(zip(names, tests, strict=True))


def _read_subtasks(column: object, names: list[str]) -> list[tuple[float, list[str]]]:
    value = read_json(column)
    if value is None:
        return [(1.0, names)]
    subtasks = []
    for part in value if isinstance(value, list) else [value]:
        match part:
            case {"score": int() | float() as points, "test_names": [*chosen]}:
                if chosen and set(chosen) <= set(names):
                    subtasks.append((float(points), chosen))
                    continue
        raise ValueError(
            f"column 'subtasks' must hold a 'score' and the 'test_names' of some of 'test_cases', "
            f"{', '.join(names)}, not {part!r:.80}: correct it, or drop such rows"
        )
    return subtasks


def _unsupported(column: str, value: object) -> str:
    return (
        f"column {column!r} has {value!r:.80}: interactive problems, files, graders and tests that "
        f"must be downloaded are not supported; drop such rows, or put the tests into the row"
    )
