"""Makes the workers' server compare what answers usually are, once; import it nowhere else.

The parser of LaTeX builds its tables as it meets new constructions, and sympy fills its caches: the
first answers take ten times as long as later ones. Forks of the server begin with what it has, so
that a worker in the place of a killed one is as fast as the others.
"""

from __future__ import annotations

from itertools import pairwise

from stages.grpo.rewards.accuracy import _agrees

_EXPRESSIONS = (
    "42",
    "-7",
    "1,234",
    "0.125",
    r"12.5\%",
    r"\frac{3}{4}",
    r"-\frac{17}{12}",
    r"\frac{\sqrt{3}}{2}",
    r"3\sqrt{5}",
    r"\sqrt[3]{2}",
    r"2 + 3\sqrt{7}",
    r"\frac{1 + \sqrt{5}}{2}",
    r"2\pi",
    r"\frac{\pi}{6}",
    r"e^{2}",
    r"\ln 2",
    r"2^{10} - 1",
    r"10!",
    r"\binom{10}{3}",
    r"x^2 - 5x + 6",
    r"6 - 5x + x^2",
    r"(x-2)(x-3)",
    r"\frac{x+1}{x-1}",
    r"x = 3",
    r"y = 2x + 1",
    r"x \leq 4",
    r"1 < x < 2",
    r"(1, 2)",
    r"[0, 5)",
    r"\left[3, 7\right)",
    r"(-\infty, 2] \cup (3, \infty)",
    r"\{1, 2, 3\}",
    r"\{3, 2, 1\}",
    r"1, 2, 3",
    r"x = 1 \text{ or } x = 2",
    r"\sin x + \cos 2x",
    r"\tan 45^\circ",
    r"a^2 + b^2",
    r"n(n+1)",
    r"3 + 4i",
    r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
    r"\text{even}",
)

for _expression in _EXPRESSIONS:
    _agrees(rf"So it is $\boxed{{{_expression}}}$.", f"${_expression}$")
for _gold, _answer in pairwise(_EXPRESSIONS):
    _agrees(rf"\boxed{{{_answer}}}", f"${_gold}$")
