"""The code rewards, with Open-R1's defects as cases."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from stages.grpo.rewards.code import (
    binary_code_reward,
    code_reward,
    extract_code,
    is_same_value,
)
from stages.grpo.rewards.sandbox import DEFAULT_LIMITS, Limits

pytestmark = pytest.mark.sandbox

DOUBLE = "print(2 * int(input()))"


def fence(source: str, language: str = "python") -> str:
    return f"<think>\nhm\n</think>\nHere:\n```{language}\n{source}\n```\n"


def cases(*tests: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"type": "stdin_stdout", "input": a, "output": b} for a, b in tests]


def calls(name: str, *tests: tuple[object, object]) -> list[dict[str, Any]]:
    return [
        {"type": "function_call", "fn_name": name, "input": given, "output": expected}
        for given, expected in tests
    ]


def score(
    text: str, tests: object, language: str = "python", limits: Limits = DEFAULT_LIMITS
) -> float | None:
    info = {"language": language, "test_cases": tests}
    return code_reward([text], verification_info=[info], limits=limits)[0]


def test_share_of_passed_tests() -> None:
    tests = cases(("1", "2"), ("2", "4"), ("3", "7"), ("4", "8"))
    assert score(fence(DOUBLE), tests) == 0.75


def test_rows_are_scored_on_their_own_and_in_order() -> None:
    tests = {"language": "python", "test_cases": cases(("1", "2"), ("2", "4"))}
    sources = ["print(2)", DOUBLE, "1 / 0", DOUBLE, "print(4)", "x = "]
    completions = [[{"role": "assistant", "content": fence(source)}] for source in sources]
    infos: list[object] = [tests, json.dumps(tests), tests, None, tests, tests]
    rewards = code_reward(completions, verification_info=infos, num_parallel=3)
    assert rewards == [0.5, 1.0, 0.0, None, 0.5, 0.0]
    assert binary_code_reward(completions, verification_info=infos) == [
        0.0,
        1.0,
        0.0,
        None,
        0.0,
        0.0,
    ]


@pytest.mark.parametrize(
    ("printed", "expected", "value"),
    [
        ("1\n2\n3", "1\n2\n3", 1.0),
        ("1\n2\n3\n\n", "1\n2\n3", 1.0),
        ("1\n2\n3", "1\n2\n3\n \n", 1.0),
        ("1  \n2\t\n3\r", "1\n2\n3", 1.0),
        ("1\n2", "1\n2\n3", 0.0),  # a prefix: Open-R1 lets it pass
        ("1", "1\n2\n3", 0.0),
        ("1\n2\n3\n4", "1\n2\n3", 0.0),  # and this
        ("", "", 1.0),
        ("", "1", 0.0),
        ("1\n\n2", "1\n2", 0.0),
        ("1 2", "1  2", 0.0),
        (" 1", "1", 0.0),
        ("\n1", "1", 0.0),
        ("1.0", "1", 0.0),
        ("é", "é", 1.0),
    ],
)
def test_all_lines_of_the_output_count(printed: str, expected: str, value: float) -> None:
    assert score(fence(f"print({printed!r}, end='')"), cases(("", expected))) == value


def test_output_counts_only_with_status_0() -> None:
    assert score(fence("print(1)\nexit(0)"), cases(("", "1"))) == 1.0
    assert score(fence("print(1)\nexit(1)"), cases(("", "1"))) == 0.0


def test_program_that_hits_the_limit_loses_the_tests_after_it_only() -> None:
    source = "n = int(input())\nprint(n, flush=True)\nwhile n == 3: pass"
    tests = cases(("1", "1"), ("2", "2"), ("3", "3"), ("4", "4"))
    assert score(fence(source), tests, limits=Limits(cpu_s=1.0)) == 0.5


def test_program_that_never_ends_takes_the_limit_once() -> None:
    start = time.monotonic()
    assert (
        score(fence("while True: pass"), cases(*[("", "1")] * 90), limits=Limits(cpu_s=1.0)) == 0.0
    )
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("```python\na\n```", "a\n"),
        ("```python\na```", "a"),
        ("```python\na\n```\nor\n```python\nb\n```", "b\n"),
        ("```python \r\na\n```", "a\n"),
        ("```cpp\nx\n```\n```python\na\n```\n```text\ny\n```", "a\n"),
        ("a", ""),
        ("```\na\n```", ""),
        ("```py\na\n```", ""),
        ("```python3\na\n```", ""),
        ("```python a\n```", ""),
        ("```python\na", ""),
        ("<think>\n```python\na\n```\n</think>\nb", ""),  # a draft: Open-R1 takes it
        ("<think>\n```python\na\n```\n</think>\n```python\nb\n```", "b\n"),
        ("<think>\n```python\na\n```", ""),
        ("<think>a</think>\n<think>\n```python\na\n```", ""),
        ("```python\na\n```\n</think>\nb", ""),  # the prompt ended with the tag
    ],
)
def test_code_is_the_last_block_of_the_answer(text: str, source: str) -> None:
    assert extract_code(text) == source


def test_extraction_takes_linear_time() -> None:
    start = time.monotonic()
    assert extract_code("```python\n" * 50_001 + "x") == ""
    assert extract_code("``" * 100_000) == ""
    assert time.monotonic() - start < 2


def test_think_tag_of_the_prompt_is_restored() -> None:
    draft = "```python\nprint(1)\n```"
    info = {"language": "python", "test_cases": cases(("", "1"))}
    assert code_reward([draft], verification_info=[info]) == [1.0]
    prompts = ["<|im_start|>assistant\n<think>\n"]
    assert code_reward([draft], prompts=prompts, verification_info=[info]) == [0.0]


@pytest.mark.parametrize("text", ["", "print(1)", "```\nprint(1)\n```", "<think>```python\n1"])
def test_completion_without_code_gets_nothing(text: str) -> None:
    assert score(text, cases(("", "1"))) == 0.0


def test_functions_are_called_with_the_arguments() -> None:
    source = "def add(a, b=0):\n    print('noise')\n    return a + b"
    tests = calls("add", ("1\n2", "3"), ([1, 2], 3), ('"a"\n"b"', '"ab"'), ("[1]\n[2]", [1, 2]))
    assert score(fence(source), tests) == 1.0
    assert score(fence(source), calls("add", ("1\n2", "4"), ("5", "5"))) == 0.5
    assert score(fence(source), calls("other", ("1\n2", "3"))) == 0.0


def test_methods_of_a_solution_class_are_called() -> None:
    source = "class Solution:\n    def add(self, a, b):\n        return a + b"
    assert score(fence(source), calls("add", ("1\n2", "3"))) == 1.0


def test_main_block_is_not_run_for_a_function() -> None:
    source = "def f(): return 1\nif __name__ == '__main__':\n    print(input())\n    1 / 0"
    assert score(fence(source), calls("f", ("", "1"))) == 1.0


def test_large_values_come_back_whole() -> None:
    expected = list(range(200_000))
    assert score(fence("def f(n): return list(range(n))"), calls("f", ([200_000], expected))) == 1.0


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (1, 1),
        (1, 1.0),
        (True, True),
        (None, None),
        ("a", "a"),
        ([1, [2]], [1, [2]]),
        ({"a": [1], "b": 2}, {"b": 2, "a": [1]}),
        (10**30, 10**30),
    ],
)
def test_equal_values(expected: object, value: object) -> None:
    assert is_same_value(expected, value)
    assert is_same_value(value, expected)


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (1, True),
        (0, False),
        ([1], [True]),
        (None, False),
        (0, None),
        ("1", 1),
        ([1], [1, 2]),
        ([], {}),
        ([], 0),
        ({"a": 1}, {"a": 1, "b": 1}),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, ["a"]),
        (float("nan"), float("nan")),
        (10**30, 1e30),
        (0.3, 0.1 + 0.2),
    ],
)
def test_different_values(expected: object, value: object) -> None:
    assert not is_same_value(expected, value)
    assert not is_same_value(value, expected)


def test_tuples_count_as_lists() -> None:
    assert score(fence("def f(): return (1, (2, 3))"), calls("f", ("", "[1, [2, 3]]"))) == 1.0


def test_cpp() -> None:
    source = "#include <iostream>\nint main() {int n; std::cin >> n; std::cout << 2 * n << '\\n';}"
    tests = cases(("1", "2"), ("2", "4"), ("3", "7"), ("4", "8"))
    assert score(fence(source, "cpp"), tests, "cpp") == 0.75
    assert score(fence("int main() {", "cpp"), tests, "cpp") == 0.0
    assert score(fence(source, "python"), tests, "cpp") == 0.0


@pytest.mark.parametrize(
    "info",
    [
        None,
        "",
        "no JSON",
        "[" * 100_000,
        "[]",
        {"language": "python"},
        {"language": "python", "test_cases": []},
        {"language": "python", "test_cases": None},
        {"language": "python", "test_cases": "no JSON"},
        {"language": "python", "test_cases": ["1"]},
        {"language": "python", "test_cases": [{"input": "1", "output": None}]},
        {"language": "python", "test_cases": [{"input": "1"}]},
        {"language": "python", "test_cases": calls("f", ("x", "1"))},
        {"language": "python", "test_cases": calls("f", ("1", "x"))},
        {"language": "python", "test_cases": calls("f", (1, "1"))},
        {
            "language": "python",
            "test_cases": [{"type": "function_call", "input": "", "output": "1"}],
        },
    ],
)
def test_row_without_tests_has_no_verdict(info: object) -> None:
    assert code_reward([fence(DOUBLE)], verification_info=[info]) == [None]
    assert binary_code_reward([""], verification_info=[info]) == [None]


@pytest.mark.parametrize("language", ["javascript", None, "Python", ["python"]])
def test_unknown_language_is_an_error(language: object) -> None:
    info = {"language": language, "test_cases": cases(("1", "2"))}
    with pytest.raises(ValueError, match=r"\['language'\] must be one of python, cpp, not"):
        code_reward([""], verification_info=[info])


def test_unknown_type_of_test_is_an_error() -> None:
    with pytest.raises(ValueError, match="a test of type 'interactive' for python"):
        score("", [{"type": "interactive", "input": "1", "output": "2"}])
    with pytest.raises(ValueError, match="a test of type 'function_call' for cpp"):
        score("", calls("f", ("1", "1")), "cpp")


def test_column_must_have_a_value_for_each_completion() -> None:
    with pytest.raises(ValueError, match="shorter"):
        code_reward(["", ""], verification_info=[None])


@pytest.mark.parametrize("kind", ["stdin_stdout", "function_call"])
def test_limits_are_those_of_each_test(kind: str) -> None:
    source = "import mmap\nmmap.mmap(-1, 600 << 20)\ndef f(): return 1\nprint(1)"
    case = {"type": "function_call", "fn_name": "f", "input": "", "output": "1"}
    tests = [case] if kind == "function_call" else cases(("", "1"))
    info = [{"language": "python", "test_cases": tests}]
    small = Limits(memory_bytes=256 << 20)
    for reward in (code_reward, binary_code_reward):
        assert reward([fence(source)], verification_info=info) == [1.0]
        assert reward([fence(source)], verification_info=info, limits=small) == [0.0]


def test_thought_that_the_template_began_has_no_code() -> None:
    info = [{"language": "python", "test_cases": cases(("", "1"))}]
    for reward in (code_reward, binary_code_reward):
        for prompt, value in (("<think>\n", 0.0), ("", 1.0)):
            text = "```python\nprint(1)\n```"
            assert reward([text], verification_info=info, prompts=[prompt]) == [value]
