"""The contest rewards, on problems small enough to read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stages.grpo.rewards.contest import add_includes, cf_code_reward, ioi_code_reward
from stages.grpo.rewards.sandbox import Limits

pytestmark = pytest.mark.sandbox

DOUBLE = "print(2 * int(input()))"
CPP = "int main() {{int n; cin >> n; cout << ({}) << endl;}}"
TESTS = [{"input": str(n), "output": f"{2 * n}\n"} for n in (1, 2, 3, 4)]


def fence(source: str, language: str = "python") -> str:
    return f"</think>\n```{language}\n{source}\n```"


def codeforces(text: str, scoring_mode: Any = "weighted_sum", **columns: Any) -> float | None:
    row = {"official_tests": TESTS, "language": "python"} | columns
    lists: Any = {name: [value] for name, value in row.items()}
    return cf_code_reward([text], scoring_mode=scoring_mode, **lists)[0]


def ioi(source: str, **columns: Any) -> float | None:
    lists: Any = {name: [value] for name, value in columns.items()}
    return ioi_code_reward([fence(source, "cpp")], **lists)[0]


@pytest.mark.parametrize(
    ("mode", "all_passed", "half"),
    [("pass_fail", 1.0, 0.0), ("partial", 1.0, 0.5), ("weighted_sum", 1.1, 0.05)],
)
def test_scoring_modes(mode: str, all_passed: float, half: float) -> None:
    assert codeforces(fence(DOUBLE), scoring_mode=mode) == pytest.approx(all_passed)
    some = fence("n = int(input())\nprint(2 * n if n > 2 else 0)")
    assert codeforces(some, scoring_mode=mode) == pytest.approx(half)


def test_mode_that_wants_all_gives_nothing_for_some() -> None:
    first_two = fence("n = int(input())\nprint(2 * n if n < 3 else 0)")
    assert codeforces(first_two, scoring_mode="pass_fail") == 0.0
    assert codeforces(first_two, scoring_mode="partial") == 0.5


def test_thought_that_the_template_began_has_no_code() -> None:
    text = "```python\n" + DOUBLE + "\n```"
    assert codeforces(text, prompts="<think>\n") == -1.0
    assert codeforces(text, prompts="") == pytest.approx(1.1)


def test_standard_input_is_no_special_mode() -> None:
    assert codeforces(fence(DOUBLE), input_mode="stdio", interaction_format="") == pytest.approx(
        1.1
    )


def test_default_is_the_weighted_sum() -> None:
    assert codeforces(fence(DOUBLE)) == pytest.approx(1.1)


def test_no_submission_and_no_compilation() -> None:
    assert codeforces("no code") == -1.0
    assert codeforces(fence("int main(", "cpp"), language="cpp") == -0.1
    assert codeforces(fence("print(")) == 0.0  # Python is not compiled first


@pytest.mark.parametrize("tests", [None, [], "", "[]"])
def test_row_without_tests_has_no_verdict(tests: object) -> None:
    assert codeforces(fence(DOUBLE), official_tests=tests) is None


def test_row_without_language_has_no_verdict() -> None:
    assert codeforces(fence(DOUBLE), language=None) is None  # Open-R1: -1.0


def test_tests_may_be_json_and_generated_ones_count() -> None:
    more = [{"input": "5", "output": "11"}] * 4
    columns = {"official_tests": json.dumps(TESTS), "generated_tests": json.dumps(more)}
    assert codeforces(fence(DOUBLE), **columns, scoring_mode="partial") == 0.5


def test_prefix_of_the_output_does_not_pass() -> None:
    tests = [{"input": "", "output": "1\n2\n3"}]
    assert codeforces(fence("print(1)"), official_tests=tests) == 0.0
    assert codeforces(fence("print('1\\n2\\n3')"), official_tests=tests) == pytest.approx(1.1)


def test_time_limit_is_cpu_time_and_ends_the_tests() -> None:
    source = "n = int(input())\nprint(2 * n)\nwhile n == 3: pass"
    assert codeforces(fence(source), time_limit=1.0, scoring_mode="partial") == 0.5


def test_memory_limit() -> None:
    source = "import mmap\nmmap.mmap(-1, 600 << 20)\n" + DOUBLE
    assert codeforces(fence(source), scoring_mode="partial") == 1.0
    assert codeforces(fence(source), memory_limit=256.0, scoring_mode="partial") == 0.0


def test_limits_of_the_stage_are_for_rows_without_their_own() -> None:
    source = "import mmap\nmmap.mmap(-1, 600 << 20)\n" + DOUBLE
    small = Limits(memory_bytes=256 << 20)
    for memory_limit, value in ((None, 0.0), (1024.0, 1.1), ("1024", 1.1)):
        rewards = cf_code_reward(
            [fence(source)],
            official_tests=[TESTS],
            language=["python"],
            memory_limit=[memory_limit],  # the stage prompts writes numbers as text
            limits=small,
        )
        assert rewards == [pytest.approx(value)]


CHECKER = """
import sys
given, correct, output = (open(path).read() for path in sys.argv[1:])
a, b = map(int, output.split())
print(int(a + b == int(given) and a >= 0 and b >= 0 and correct != ""))
"""


def test_checker_decides() -> None:
    tests = [{"input": "9", "output": "4 5"}]
    columns = {"official_tests": tests, "generated_checker": CHECKER, "scoring_mode": "pass_fail"}
    assert codeforces(fence("print(2, 7)"), **columns) == 1.0
    assert codeforces(fence("print(2, 8)"), **columns) == 0.0
    assert codeforces(fence("print('not two numbers')"), **columns) == 0.0


def test_checker_runs_in_a_sandbox() -> None:
    checker = "import os\nprint(int(not os.path.exists('/etc/passwd') and os.getuid() == 65534))"
    tests = [{"input": "", "output": ""}]
    columns = {"official_tests": tests, "generated_checker": checker, "scoring_mode": "pass_fail"}
    assert codeforces(fence("pass"), **columns) == 1.0


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("interaction_format", "The judge answers."),
        ("input_mode", "file"),
        ("generated_tests", 12),
    ],
)
def test_what_needs_piston_is_an_error(column: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"column '{column}' has .* not supported"):
        codeforces(fence(DOUBLE), **{column: value})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"scoring_mode": "sum"}, "scoring_mode must be one of pass_fail, partial, weighted_sum"),
        ({"language": "java"}, "column 'language' must be one of python, cpp, not 'java'"),
        ({"official_tests": [{"input": "1"}]}, "column 'official_tests' must hold tests of"),
        ({"time_limit": 0}, "column 'time_limit' must be a number > 0 or null, not 0"),
        ({"time_limit": "2 s"}, "column 'time_limit' must be a number > 0 or null, not '2 s'"),
        ({"memory_limit": float("inf")}, "column 'memory_limit' must be a number > 0 or null"),
    ],
)
def test_wrong_columns_are_errors(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codeforces(fence(DOUBLE), **columns)


def test_column_must_have_a_value_for_each_completion() -> None:
    with pytest.raises(ValueError, match="'time_limit' must be a list of one value for each of 1 "):
        cf_code_reward([""], official_tests=[TESTS], language=["python"], time_limit=[1.0, 2.0])


IOI_TESTS = {"a": ["1", "2"], "b": ["2", "4"], "c": ["3", "6"], "d": ["40", "80"]}
SUBTASKS = [
    {"subtask": "01", "score": 10, "test_names": ["a"]},
    {"subtask": "02", "score": 30, "test_names": ["a", "b", "c"]},
    {"subtask": "03", "score": 60, "test_names": ["a", "b", "c", "d"]},
]


@pytest.mark.parametrize(
    ("formula", "share"),
    [("n > 9 ? 0 : 2 * n", 0.4), ("n > 2 ? 0 : 2 * n", 0.1)],
)
def test_points_of_the_subtasks_that_pass(formula: str, share: float) -> None:
    assert ioi(CPP.format(formula), test_cases=IOI_TESTS, subtasks=SUBTASKS) == share


def test_row_that_is_one_subtask() -> None:
    tests = json.dumps([["1", "2"], ["2", "4"]])
    columns = {"test_cases": tests, "test_names": ["01-a", "01-b"]}
    assert ioi(CPP.format("2 * n"), **columns) == 1.0
    assert ioi(CPP.format("n + 1"), **columns) == 0.0  # one of two


def test_ioi_completion_without_code_or_that_does_not_compile_gets_nothing() -> None:
    assert ioi_code_reward(["no code"], test_cases=[IOI_TESTS]) == [0.0]
    assert ioi("int main( {", test_cases=IOI_TESTS) == 0.0


@pytest.mark.parametrize("tests", [[], {}, "[]"])
def test_ioi_row_without_tests_has_no_verdict(tests: object) -> None:
    assert ioi(CPP.format("n"), test_cases=tests) is None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"test_cases": None}, "column 'test_cases' has None"),
        (
            {"test_cases": IOI_TESTS, "grader_files": [["grader.cpp", "..."]]},
            "column 'grader_files' has .* not supported",
        ),
        ({"test_cases": [["1", "2"]], "test_names": []}, "'test_names' has 0 names for 1 "),
        (
            {"test_cases": IOI_TESTS, "subtasks": [{"score": 1, "test_names": ["z"]}]},
            "column 'subtasks' must hold a 'score' and the 'test_names' of some of",
        ),
        (
            {"test_cases": IOI_TESTS, "subtasks": [{"test_names": ["a"]}]},
            "column 'subtasks' must hold a 'score'",
        ),
        ({"test_cases": [[1, 2]]}, "column 'test_cases' must hold tests of an input and an output"),
    ],
)
def test_wrong_ioi_columns_are_errors(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ioi(CPP.format("n"), **columns)


def test_includes_are_open_r1s() -> None:
    assert add_includes("int main() {}") == (
        "#include <bits/stdc++.h>\nusing namespace std;\nint main() {}"
    )
    code = "using namespace std;\nint main() {}"
    assert add_includes(code) == f"#include <bits/stdc++.h>\n{code}"


def test_no_grader_files_are_no_grader() -> None:
    values: list[object] = [[], "[]", "", None]
    for files in values:  # the stage prompts writes lists as text
        assert ioi(CPP.format("2 * n"), test_cases=[["1", "2"]], grader_files=files) == 1.0


def test_tests_without_names_are_all_run() -> None:
    tests = [["1", "2"], ["2", "9"], ["3", "6"]]
    assert ioi(CPP.format("2 * n"), test_cases=tests) == 0.0
    assert ioi(CPP.format("n == 2 ? 9 : 2 * n"), test_cases=tests) == 1.0


def test_memory_limit_of_ioi_is_in_bytes() -> None:
    source = "int main() {int n; cin >> n; vector<char> v(600 << 20, 1); cout << n + v[7] << endl;}"
    tests = [["1", "2"]]
    assert ioi(source, test_cases=tests, memory_limit=float(1 << 30)) == 1.0
    assert ioi(source, test_cases=tests, memory_limit=float(256 << 20)) == 0.0
