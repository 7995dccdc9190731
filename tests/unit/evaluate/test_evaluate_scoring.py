"""Scores, majority votes and standard errors against values worked out by hand."""

from __future__ import annotations

from math import isclose, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.evaluate.tasks.scoring import (
    SCORER,
    process_results,
    ratio_stderr,
    stderr,
    summarise,
)
from stages.filter.verify import after_thought


def _response(answer: str) -> str:
    return f"<think>so</think><answer>{answer}</answer>"


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (_response("3"), (True, True)),
        (_response("3.0"), (True, True)),
        (_response("4"), (True, False)),
        ("3", (False, False)),
        (_response("3") + " and more", (False, False)),
        (_response("3") * 2, (False, False)),
        ("", (False, False)),
    ],
)
def test_score_needs_the_format(response: str, expected: tuple[bool, bool]) -> None:
    """A right number outside the format is not correct."""
    (answer,), (right,) = SCORER.score([response], {"answer": "3"})
    assert (answer is not None, right) == expected


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>so</think> 3", " 3"),
        ("so</think> 3", " 3"),
        ("<think>a</think> b <think>c</think> 3", " 3"),
        ("3", "3"),
        ("<think>so, 3", None),
        ("<think>a</think> <think>3", None),
        ("<think>a</think> 2 <think>b</think> 3", " 3"),
    ],
)
def test_what_follows_the_thought(text: str, rest: str | None) -> None:
    """A thought that is never closed has no answer; who does not think answers at once."""
    assert after_thought(text) == rest


def test_majority_vote() -> None:
    """The most frequent formatted answer wins; a tie goes to the first; nobody voting is wrong."""

    def majority_is_correct(responses: list[str], gold: str) -> bool:
        problem = {"answer": gold}
        return SCORER.majority(SCORER.score(responses, problem)[0], problem)

    three, four = _response("3"), _response("4")
    assert majority_is_correct([four, three, three], "3")
    assert not majority_is_correct([four, four, three], "3")
    assert majority_is_correct([three, four], "3")
    assert not majority_is_correct([four, three], "3")
    assert majority_is_correct(["4", "4", three], "3")
    assert not majority_is_correct(["3", "3"], "3")


def test_process_results_averages_over_samples() -> None:
    """Two of four samples are right, three are in the format, and two of those agree."""
    responses = [_response("3"), _response("4"), "3", _response("3")]
    assert process_results({"answer": "3"}, [responses]) == {
        "accuracy": 0.5,
        "majority_accuracy": 1.0,
        "format_rate": 0.75,
    }


def test_summarise_one_sample_each() -> None:
    """Four problems; given the format, the error is the binomial one times sqrt(4 / 3)."""
    rows = [
        {"formatted": [form], "correct": [right], "num_tokens": [num]}
        for form, right, num in [
            (True, True, 10),
            (True, False, 20),
            (True, True, 30),
            (False, False, 64),
        ]
    ]
    results = summarise(rows, [True, False, True, False])
    assert results == {
        "num_problems": 4,
        "num_samples": 4,
        "accuracy": 0.5,
        "accuracy_stderr": pytest.approx(sqrt(1 / 3) / 2),
        "majority_accuracy": 0.5,
        "majority_accuracy_stderr": pytest.approx(sqrt(1 / 3) / 2),
        "format_rate": 0.75,
        "format_rate_stderr": 0.25,
        "accuracy_given_format": pytest.approx(2 / 3),
        "accuracy_given_format_stderr": pytest.approx(sqrt(2 / 27) * sqrt(4 / 3)),
        "mean_tokens": 31.0,
    }


def test_more_samples_of_the_same_problems_are_not_more_problems() -> None:
    """Sixteen equal samples per problem leave the error as it is: problems are what is drawn."""
    right = [True, False, True, True, False]
    errors = [
        summarise(
            [{"formatted": [True] * k, "correct": [x] * k, "num_tokens": [1] * k} for x in right],
            right,
        )["accuracy_stderr"]
        for k in (1, 16)
    ]
    assert errors[0] == errors[1] == pytest.approx(sqrt(0.3 / 5))


def test_undefined_errors_are_null() -> None:
    """One problem has no standard error; without a formatted response nothing is given it."""
    row = {"formatted": [False], "correct": [False], "num_tokens": [3]}
    results = summarise([row], [False])
    assert results["accuracy"] == 0.0
    assert results["accuracy_stderr"] is None
    assert results["accuracy_given_format"] is None
    assert results["accuracy_given_format_stderr"] is None
    assert stderr([1.0]) is None
    assert ratio_stderr([1.0], [1.0]) is None


@given(st.lists(st.sampled_from([(0, 0), (0, 1), (1, 1)]), min_size=2, max_size=40))
def test_ratio_stderr_is_binomial_for_one_sample(pairs: list[tuple[int, int]]) -> None:
    """For 0/1 values the linearised error is sqrt(r (1 - r) / m), but for n / (n - 1)."""
    right, formed = [float(y) for y, _ in pairs], [float(x) for _, x in pairs]
    num, total = len(pairs), sum(formed)
    error = ratio_stderr(right, formed)
    if total == 0:
        assert error is None
    else:
        rate = sum(right) / total
        expected = sqrt(rate * (1 - rate) / total * num / (num - 1))
        assert error is not None
        assert isclose(error, expected, abs_tol=1e-7)
