"""What counts as the same text, and what as a leak."""

from __future__ import annotations

import pytest

from stages.prompts.decontaminate import LeakDetector, find_boilerplate
from stages.prompts.params import BoilerplateParams, DecontaminationParams
from stages.prompts.sources import Problem
from stages.prompts.text import normalise, words

TEMPLATE = "State the final answer to the following arithmetic problem: {} ="
BOILERPLATE = BoilerplateParams(ngram=5, min_frequency=0.2, num_rows=100)
PARAMS = DecontaminationParams(ngram=10, boilerplate=BOILERPLATE, against={}, max_matches=9)


def problem(question: str, solution: str = "1") -> Problem:
    return Problem(question, "1", solution)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12 + 3", "12+3"),
        ("What is  12 + 3?\n", "what is 12 + 3"),
        ("It costs $1,200.", "it costs $1200"),
        ("3 − 2", "3 - 2"),
        ("2 × 3", "2 * 3"),
        ("Janet’s ducks", "janet's ducks"),
        ("“Yes,” he said…", '"yes", he said'),
        ("Straße", "STRASSE"),
    ],
)
def test_same_text(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12 + 3", "12 - 3"),
        ("12 + 3", "12 3"),
        ("1 23", "12 3"),
        ("(1 + 2) * 3", "1 + (2 * 3)"),
        ("1.5", "15"),
        (".5", "5"),
        ("2:30", "230"),
        ("5!", "5"),
        ("x²", "x2"),
        ("3²", "32"),
        ("f'(x)", "f(x)"),
        ("x < y", "x > y"),
        ("50%", "50"),
        ("$5", "5"),
    ],
)
def test_different_text(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


def test_words_are_what_whitespace_separates() -> None:
    assert words("She has 2*12=24 eggs, right?") == ("she", "has", "2 * 12 = 24", "eggs", "right")
    assert words(" ?! ... ") == ()


def test_shared_ngram_of_the_question_is_a_leak() -> None:
    shared = "one two three four five six seven eight nine ten"
    detector = LeakDetector([("e-1", problem(f"Before it {shared}."))], [], PARAMS)
    match = detector.match(problem(f"{shared.upper()}, and more"))
    assert match is not None
    assert (match.reason, match.evaluation_id, match.shared) == ("ngram", "e-1", shared)
    assert detector.match(problem("two three four five six seven eight nine ten and more")) is None


def test_shared_ngram_of_the_solution_is_a_leak() -> None:
    shared = "first the farmer sells ten eggs and then buys bread"
    asked = problem("How much is left?", f"So {shared}. #### 3")
    detector = LeakDetector([("e-1", asked)], [], PARAMS)
    match = detector.match(problem("What remains?", shared))
    assert match is not None
    assert match.shared == shared
    leaked_into_question = detector.match(problem(f"Say {shared}", "2"))
    assert leaked_into_question is not None


def test_short_question_is_a_leak_if_it_is_the_same() -> None:
    """open-r1's filter never removes a question that is shorter than its n-gram."""
    detector = LeakDetector([("e-1", problem("What is 12 + 3?"))], [], PARAMS)
    match = detector.match(problem("what is 12+3"))
    assert match is not None
    assert (match.reason, match.shared) == ("whole", "what is 12 + 3")
    assert detector.match(problem("What is 12 - 3?")) is None
    assert detector.match(problem("What is 12 + 3 + 4?")) is None


def test_the_same_words_in_another_order_are_a_leak() -> None:
    detector = LeakDetector([("e-1", problem("Calculate 4 + 7 + 9."))], [], PARAMS)
    match = detector.match(problem("Calculate 9+4+7."))
    assert match is not None
    assert (match.reason, match.evaluation_id) == ("whole", "e-1")
    assert match.shared == "calculate 9 + 4 + 7"
    assert detector.match(problem("Calculate 4 + 7 + 7.")) is None
    assert detector.match(problem("Calculate 4 + 7 + 9 + 4.")) is None


def test_equal_short_answers_are_no_leak() -> None:
    detector = LeakDetector([("e-1", problem("What is 12 + 3?", "15"))], [], PARAMS)
    assert detector.match(problem("What is 10 + 5?", "15")) is None


def sums() -> list[Problem]:
    """Returns 200 problems of one template: 0 + 7 to 199 + 206."""
    return [problem(TEMPLATE.format(f"{a} + {a + 7}")) for a in range(200)]


def test_template_is_boilerplate() -> None:
    found = find_boilerplate(sums(), BOILERPLATE)
    assert found == {
        ("state", "the", "final", "answer", "to"): 1.0,
        ("the", "final", "answer", "to", "the"): 1.0,
        ("final", "answer", "to", "the", "following"): 1.0,
        ("answer", "to", "the", "following", "arithmetic"): 1.0,
        ("to", "the", "following", "arithmetic", "problem"): 1.0,
    }


def test_frequency_must_exceed_the_bound() -> None:
    rows = [problem("a b c d e" if n < 20 else f"{n} 1 2 3 4") for n in range(100)]
    assert find_boilerplate(rows, BOILERPLATE) == {}
    rows[50] = problem("a b c d e f")
    assert find_boilerplate(rows, BOILERPLATE) == {("a", "b", "c", "d", "e"): 0.21}


def test_few_problems_have_no_boilerplate() -> None:
    assert find_boilerplate(sums()[:99], BOILERPLATE) == {}


def test_template_is_no_leak_but_the_problem_in_it_is() -> None:
    detector = LeakDetector([("e-1", problem(TEMPLATE.format("12 + 19")))], _found(), PARAMS)
    # Without its boilerplate this shares 10-grams such as "state ... problem 12":
    assert detector.match(problem(TEMPLATE.format("12 + 18"))) is None
    match = detector.match(problem(TEMPLATE.format("12+19")))
    assert match is not None
    assert (match.reason, match.shared) == ("whole", "12 + 19 =")


def test_without_boilerplate_the_template_condemns_everything_similar() -> None:
    detector = LeakDetector([("e-1", problem(TEMPLATE.format("12 + 19")))], [], PARAMS)
    match = detector.match(problem(TEMPLATE.format("12 + 18")))
    assert match is not None
    assert match.reason == "ngram"


def test_text_beyond_the_template_is_still_compared() -> None:
    story = "a train leaves at noon and meets another one at dusk"
    detector = LeakDetector([("e-1", problem(TEMPLATE.format(story)))], _found(), PARAMS)
    match = detector.match(problem(f"Consider: {story}"))
    assert match is not None
    assert match.shared == "a train leaves at noon and meets another one at"


def test_question_of_nothing_but_template_is_compared_as_a_whole() -> None:
    bare = "State the final answer to the following arithmetic problem"
    detector = LeakDetector([("e-1", problem(bare))], _found(), PARAMS)
    assert detector.match(problem(bare)) is not None
    assert detector.match(problem("the final answer to the following arithmetic problem")) is None


def _found() -> list[tuple[str, ...]]:
    return list(find_boilerplate(sums(), BOILERPLATE))
