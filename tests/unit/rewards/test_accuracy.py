"""Only the final answer counts, once; the defects of Open-R1's accuracy reward are cases."""

from __future__ import annotations

import pytest

from stages.grpo.rewards import verifier
from stages.grpo.rewards.accuracy import (
    MAX_TEXT_LENGTH,
    accuracy_reward,
    answer_accuracy,
    answer_format,
    final_text,
    flexible_accuracy,
)


def _completions(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


@pytest.mark.parametrize(
    ("text", "solution"),
    [
        (r"\boxed{\frac{63}{400}}", r"\frac{63}{400}"),
        (r"\boxed{\frac{63}{400}}", "63/400"),
        (r"So it is \boxed{0.1575}.", r"$\frac{63}{400}$"),
        (r"The answer is $4$", "4"),
        (r"The final answer is $4$. I hope it is correct.", "4"),
        (r"<think>2 + 2</think> \boxed{4}", "4"),
        (r"<think>\boxed{5}</think> \boxed{4}", "4"),
        (r"<think>a</think> <think>b</think> \boxed{4}", "4"),
        (r"a</think> \boxed{4}", "4"),  # a template wrote the tag
        (r"<think>a</think><answer>\boxed{4}</answer>", "4"),
        (r"\boxed{3}, no: \boxed{4}", "4"),  # corrected: Open-R1 has 0.0
        (r"$\boxed{3} \boxed{4}$", "4"),
        (r"\boxed{\boxed{4}}", "4"),
        (r"$\boxed{50}$%", "0.5"),
        (r"It is \boxed{50} \%.", "0.5"),
        (r"\boxed{x=4}", "4"),
        (r"\boxed{\{1, 2\}}", r"$\{2, 1\}$"),
        (r"\boxed{[0, 1)}", "$[0, 1)$"),
    ],
)
def test_correct(text: str, solution: str) -> None:
    assert accuracy_reward(_completions(text), [solution]) == [1.0]


@pytest.mark.parametrize(
    ("text", "solution"),
    [
        ("", "4"),
        ("4", "4"),  # not said to be the answer
        ("$x = 4$", "4"),
        (r"\boxed{}", "4"),
        (r"\boxed{\frac{64}{400}}", r"\frac{63}{400}"),
        (r"\boxed{3}", "6"),
        (r"<think>\boxed{4}</think> Done.", "4"),  # Open-R1 has 1.0
        (r"<think>\boxed{4}</think> \boxed{5}", "4"),
        (r"<think>\boxed{4}", "4"),  # a thought that never ends: Open-R1 has 1.0
        (r"<think>a</think> <think>\boxed{4}", "4"),
        (r"\boxed{4}, no: \boxed{3}", "4"),
        (r"$\boxed{4}$ or $\boxed{3}$", "4"),
        (r"$\boxed{1}$, $\boxed{2}$", r"$\{1, 2\}$"),  # Open-R1 has 1.0
        (r"\boxed{3, 4}", "4"),
        (r"\boxed{3 \text{ or } 4}", "4"),
        (r"\boxed{４}", "4"),  # fullwidth
        (r"\boxed{4²}", "4"),
        ("\\boxed{4\0}5", "5"),
        ("\\boxed{\udc80}", "4"),  # a lone surrogate
        ("\\boxed{" + "1" * 100_000 + "}", "4"),
        (r"\boxed{4}" + "x" * MAX_TEXT_LENGTH, "4"),
        ("x" * 1_000_000, "4"),
    ],
)
def test_wrong(text: str, solution: str) -> None:
    assert accuracy_reward(_completions(text), [solution]) == [0.0]


def test_arguments_of_math_verify_are_in_its_order() -> None:
    # An equation is unwrapped for a number, but no number is made of a reference's inequality.
    completions = _completions(r"\boxed{(1, 2)}", r"\boxed{1 < x < 2}")
    assert accuracy_reward(completions, ["$1 < x < 2$", "$(1, 2)$"]) == [1.0, 0.0]


def test_solution_without_a_verdict() -> None:
    completions = _completions(r"\boxed{4}", r"\boxed{4}", r"\boxed{4}", "Answer is forty two.")
    solutions = ["what?", None, "4", "Answer is forty two."]
    assert accuracy_reward(completions, solutions) == [None, None, 1.0, None]


def test_comparison_that_never_ends_has_no_verdict() -> None:
    before = verifier.counts()["killed"]
    assert accuracy_reward(_completions(r"\boxed{9^{9^{9^9}}}"), ["4"]) == [None]
    assert verifier.counts()["killed"] == before + 1


def test_plain_text_and_other_columns_are_taken() -> None:
    assert accuracy_reward([r"\boxed{4}"], solution=["4"], prompts=["2 + 2"], id=["p"]) == [1.0]


def test_numbers_of_completions_and_solutions_must_be_equal() -> None:
    with pytest.raises(ValueError, match="zip"):
        accuracy_reward([r"\boxed{4}"], ["4", "5"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "a"),
        ("<think>a</think>b", "b"),
        ("<think>a</think>b</think>c", "c"),
        ("<think>a", ""),
        ("a<think>b</think>c<think>", ""),
        (r"$\boxed{1}$ \boxed{2}.", r"\boxed{2}"),
        (r"$\boxed{\frac{1}{2}}$, so {it} is", r"\boxed{\frac{1}{2}}"),
        (r"\boxed {\{1\}, \text{}} }", r"\boxed {\{1\}, \text{}}"),
        (r"\boxed{50}$ \% of", r"$\boxed{50}$%"),
        (r"\boxed{50} of 60 %", r"\boxed{50}"),
        (r"\boxed{1} \boxed 2{3}", r"{1} \boxed 2{3}"),  # LaTeX boxes the 2
        (r"\boxed{1} \boxed{2", r"{1} \boxed{2"),
        (r"\boxed{1} \boxed}2{", r"{1} \boxed}2{"),
        ("x" + "y" * MAX_TEXT_LENGTH, "y" * MAX_TEXT_LENGTH),
    ],
)
def test_final_text(text: str, expected: str) -> None:
    assert final_text(text) == expected


TEXTS = {
    "<think>1 + 2 = 3</think><answer>3</answer>": (1.0, 1.0),
    "<think>1 + 2 = 3</think>\n<answer> 3.0 </answer>\n": (1.0, 1.0),
    "<think>1 + 2 = 3</think><answer>3 apples</answer>": (1.0, 1.0),
    "<think>1 + 2 = 4</think><answer>4</answer>": (0.0, 1.0),
    "<think>1 + 2 = 4</think><answer>4.0</answer>": (0.0, 1.0),
    "3": (0.0, 0.0),
    "<think>1</think><answer>3</answer> and more": (0.0, 0.0),
    "<think>1</think><answer>1 + 2</answer>": (0.0, 1.0),
    "<think>1</think><answer>2, 3</answer>": (0.0, 1.0),
    "<think>1</think><answer></answer>": (0.0, 1.0),
}


def test_answers_in_the_format() -> None:
    completions = _completions(*TEXTS)
    answers = ["3"] * len(completions)
    accuracy, form = zip(*TEXTS.values(), strict=True)
    assert answer_accuracy(completions, answer=answers, id=answers) == list(accuracy)
    assert answer_format(completions, answer=answers, id=answers) == list(form)


def test_integers_need_no_worker() -> None:
    before = verifier.counts()["items"]
    completions = _completions("<think>a</think><answer>-7</answer>", "-7")
    assert answer_accuracy(completions, ["-7", "-7"]) == [1.0, 0.0]
    assert verifier.counts()["items"] == before


def test_values_keep_their_order_whatever_the_way() -> None:
    answers = ["1", r"\frac{1}{2}", "2", "$x+1$", "1/3"]
    golds = ["1", "0.5", "3", "$1+x$", "0.5"]
    completions = _completions(*[f"<think>a</think><answer>{a}</answer>" for a in answers])
    assert answer_accuracy(completions, golds) == [1.0, 1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("text", ["3", "<think>a</think><answer>3</answer>"])
def test_reference_that_cannot_be_parsed_stops_the_training(text: str) -> None:
    with pytest.raises(ValueError, match="'what\\?' cannot be parsed by math-verify"):
        answer_accuracy(_completions(text), answer=["what?"])


def test_answer_that_never_ends_has_no_verdict() -> None:
    completions = _completions("<think>a</think><answer>$9^{9^{9^9}}$</answer>")
    assert answer_accuracy(completions, ["1/3"]) == [None]


def test_slow_answer_has_no_verdict_however_busy_the_machine_is() -> None:
    """math-verify's own limit, 3 s of wall time, would make it wrong before its CPU time is up."""
    completions = _completions("<think>a</think><answer>$8^{9^{9^9}}$</answer>")
    default = verifier._settings
    verifier.configure(timeout_s=3.5)
    try:
        assert answer_accuracy(completions, ["1/3"]) == [None]
    finally:
        verifier.configure(default.num_workers, default.timeout_s)


def test_tag_that_the_template_wrote_is_put_back() -> None:
    completion, prompt = "1 + 2 = 3</think><answer>3</answer>", "1 + 2?<think>"
    assert answer_accuracy([completion], ["3"], prompts=[prompt]) == [1.0]
    assert answer_format([completion], prompts=[prompt]) == [1.0]
    assert answer_accuracy([completion], ["3"], prompts=["1 + 2?"]) == [0.0]
    assert answer_format([completion]) == [0.0]
    assert accuracy_reward([r"\boxed{3}"], ["3"], prompts=[prompt]) == [0.0]


def test_flexible_accuracy_takes_the_last_number() -> None:
    completions = _completions("4 + 7 = 11", "<answer>11</answer> or 12", "eleven")
    assert flexible_accuracy(completions, ["11", "11", "11"]) == [1.0, 0.0, 0.0]
