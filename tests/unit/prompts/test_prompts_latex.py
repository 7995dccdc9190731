"""Formulas: which ways of writing are one, and which are not."""

from __future__ import annotations

import pytest

from stages.prompts.latex import plain
from stages.prompts.text import normalise, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"Let $x + 1 = \frac{1}{2}$. Find \(x\).", "Let x+1=1/2. Find x."),
        (r"\dfrac{a+b}{2} \tfrac12 \frac\pi{10}", "(a+b)/2 1/2 π/10"),
        (r"$\frac{\frac{1}{2}+\pi}{3}$", "(1/2+π)/3"),
        (r"$\sqrt{2} + \sqrt[3]{x+1}$", "√2+3√(x+1)"),
        (r"$\left( x^{2}, y_{10}, z^{a+b} \right)$", "(x^2,y_10,z^(a+b))"),
        (r"$\left. F \right|_{0}$", "F|_0"),
        (r"$12{,}000 \text{ people}$", "12,000  people "),
        (r"$A = \{1, 2\}$", "A={1,2}"),
        (r"\boxed{42} and \mathrm{cm}", "42 and cm"),
        (r"$3 \cdot 4 \times 5 \le 60 \ne 61$", "3*4*5<=60≠61"),
        (r"$90^\circ$", "90°"),
        (r"$x\,dx \quad y$", "xdx y"),
        ("costs $5 and $6, or $5-$6", "costs $5 and $6, or $5-$6"),
        (r"\$5 for 50\%", "$5 for 50%"),
        ("no formula {here}", "no formula {here}"),
        ("ends with \\", "ends with \\"),
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"$x^2 + 3x$", r"\[ x^{2}+3x \]"),
        (r"\(\dfrac{1}{2}\)", "1/2"),
        (r"$3\cdot 4 \leq 12$", "3·4≤12"),
        (r"$2\pi r$", "2πr"),
        ("x²", "$x^{2}$"),
        (r"$\left\{ 1, 2 \right\}$", r"\{1,2\}"),
        (r"\text{How many?}", "how many"),
    ],
)
def test_the_same_formula(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"$\frac{1}{2}$", r"$\frac{2}{1}$"),
        (r"$\frac{a+b}{c}$", r"$a+\frac{b}{c}$"),
        (r"$x^{a+b}$", r"$x^a+b$"),
        (r"$\sqrt{2}$", "$2$"),
        (r"$a \le b$", r"$a < b$"),
        (r"$5", r"$5$"),
    ],
)
def test_another_formula(one: str, other: str) -> None:
    assert words(one) != words(other)


def test_a_formula_is_one_word() -> None:
    assert words(r"Solve $x + 1 = 2$ for \( x \).") == ("solve", "x + 1 = 2", "for", "x")


def test_unfinished_formulas_take_no_time() -> None:
    """Regular expressions that try each end for each beginning would take hours."""
    for piece in (r"\(", "$ ", "$a", "{", r"\frac{", r"\text{ ", "x^{", r"\[ a $"):
        plain(piece * 20_000)
