r"""One way of writing a formula instead of LaTeX's many, so that copies of a text can be found.

What is done, until nothing changes any more:

- Delimiters go: $..$, $$..$$, \(..\), \[..\]. A dollar opens a formula only if no space follows it,
  and closes one only if no space precedes and no digit follows it (Pandoc's rule), so that prices
  stay prices. In a formula spaces and grouping braces mean nothing and go: it becomes one word.
- \frac, \dfrac, \tfrac, \cfrac{a}{b} become a/b, and \sqrt{a} is √a; what is longer than one sign
  or number gets parentheses: (a+b)/2. So do exponents and indices: x^{2} is x^2, x^{a+b} x^(a+b).
- \text{..}, \mbox{..}, \begin{..} and their like are their contents with spaces around;
  \mathrm{..}, \boxed{..} and their like just their contents.
- \left, \right, \big and its like, and \displaystyle go; \, \; \: \! are spaces.
- Signs are Unicode's or ASCII's: \cdot and \times *, \le <=, \pi π. Any other command is its name.

Texts are compared by this form, and it is written nowhere: it need not be proper mathematics.
"""

from __future__ import annotations

import re
from functools import lru_cache

# In a formula, what stands for a space that must stay, for a brace that is one, and for a price:
# characters for private use.
_SPACE, _OPEN, _CLOSE, _DOLLAR = "\uf8f1", "\uf8f2", "\uf8f3", "\uf8f4"
_HELD = ((_SPACE, " "), (_OPEN, "{"), (_CLOSE, "}"), (_DOLLAR, "$"))

_FORMULA = re.compile(
    r"""( \$\$[^$]+\$\$
        | \$(?=\S)[^$]*[^$\s]\$(?!\d)
        | \\\((?:[^\\]|\\[^()\[\]])*\\\)
        | \\\[(?:[^\\]|\\[^()\[\]])*\\\]
        )""",
    re.VERBOSE,
)
_ARGUMENT = r"\s*(?:\{([^{}]*)\}|([^\s{}\\]))"
_FRACTION = re.compile(rf"\\[dtc]?frac{_ARGUMENT}{_ARGUMENT}")
_ROOT = re.compile(rf"\\sqrt(?:\[([^\[\]{{}}]*)\])?{_ARGUMENT}")
_SCRIPT = re.compile(r"([_^])\s*\{([^{}]*)\}")
_PROSES = ("text", "textbf", "textit", "textrm", "texttt", "mbox", "hbox", "emph", "begin", "end")
_PROSE = re.compile(rf"\\(?:{'|'.join(_PROSES)})\s*\{{([^{{}}]*)\}}")
_FONTS = (
    *("boxed", "fbox", "underline", "operatorname", "mathrm", "mathbf", "mathit", "mathsf"),
    *("mathtt", "mathbb", "mathcal", "mathscr", "mathfrak", "boldsymbol"),
)
_FONT = re.compile(rf"\\(?:{'|'.join(_FONTS)})\*?\s*\{{([^{{}}]*)\}}")
_NULL_DELIMITER = re.compile(r"\\(?:left|right)\s*\.")
_COMMAND = re.compile(r"\\(?:([A-Za-z]+)\*?|(.))", re.DOTALL)
_WITH_ARGUMENTS = frozenset(("frac", "dfrac", "tfrac", "cfrac", "sqrt", *_PROSES, *_FONTS))
_SPACES = re.compile(r"\s")
_IGNORED = re.compile(r"[\s~{}&]+")  # in a formula
_ONE = re.compile(r"\w|\d+(?:\.\d+)?")  # needs no parentheses


def _read_pairs(text: str) -> dict[str, str]:
    entries = text.split()
    return dict(zip(entries[::2], entries[1::2], strict=True))


_NOTHING = (
    *("left", "right", "middle", "displaystyle", "textstyle", "limits", "nolimits", "mathstrut"),
    *("big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr", "rm", "bf"),
)
_SIGNS = {
    **_read_pairs(
        "alpha α beta β gamma γ delta δ epsilon ε varepsilon ε zeta ζ eta η theta θ vartheta θ "
        "iota ι kappa κ lambda λ mu μ nu ν xi ξ pi π rho ρ sigma σ tau τ upsilon υ phi φ varphi φ "
        "chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Phi Φ Psi Ψ "
        "Omega Ω cdot * times * ast * div / pm ± le <= leq <= leqslant <= ge >= geq >= "
        "geqslant >= ne ≠ neq ≠ lt < gt > approx ≈ equiv ≡ sim ~ in ∈ cup ∪ cap ∩ subset ⊂ to → "
        "rightarrow → longrightarrow → implies ⇒ Rightarrow ⇒ dots ... ldots ... cdots ... "
        "circ ° degree ° prime ' infty ∞ angle ∠ triangle △ perp ⊥ parallel ∥ mid | colon : "
        "sum ∑ prod ∏ int ∫"
    ),
    **dict.fromkeys(_NOTHING, ""),
    **dict.fromkeys(("quad", "qquad", "par", "newline"), _SPACE),
    "lbrace": _OPEN,
    "rbrace": _CLOSE,
}
_ESCAPED = {
    **dict.fromkeys(",;:!> \n\t", " "),
    "\\": _SPACE,
    "{": _OPEN,
    "}": _CLOSE,
    "$": _DOLLAR,
}


def plain(text: str) -> str:
    """Returns the text with its formulas in the form that the module describes."""
    while "\\" in text or "$" in text:  # each turn takes one of them away, or is the last
        before = text
        pieces = _FORMULA.split(text.replace("\\$", _DOLLAR))
        pieces[1::2] = map(_compact, pieces[1::2])  # faster than a call per match of `sub`
        text = "".join(pieces)
        text = _replace(text)
        for held, sign in _HELD:
            text = text.replace(held, sign)
        if text == before:
            break
    return text


@lru_cache(maxsize=100_000)  # most are short and come again
def _compact(formula: str) -> str:
    """Returns what a formula is as one word; texts in it stand for themselves."""
    is_displayed = formula.startswith(("$$", "\\["))
    width = 1 if formula[0] == "$" and not is_displayed else 2
    word = _IGNORED.sub("", _replace(formula[width:-width]))
    return f" {word} " if is_displayed else word


def _replace(text: str) -> str:
    """Returns the text without commands; arguments are resolved from the innermost outwards."""
    if "\\" in text:
        text = _COMMAND.sub(_name, _NULL_DELIMITER.sub("", text))
    before = ""
    while text != before and ("{" in text or "\\" in text):
        before = text
        if "\\" in text:
            text = _FRACTION.sub(lambda m: f"{_group(m[1] or m[2])}/{_group(m[3] or m[4])}", text)
            text = _ROOT.sub(lambda m: f"{m[1] or ''}√{_group(m[2] or m[3])}", text)
            text = _PROSE.sub(lambda m: _SPACES.sub(_SPACE, f" {m[1]} "), text)
            text = _FONT.sub(lambda m: m[1], text)
        text = _SCRIPT.sub(lambda m: m[1] + _group(m[2]), text)
    if "\\" in text:  # commands whose arguments are missing
        text = _COMMAND.sub(lambda m: m[1] or m[2], text)
    return text.replace("^°", "°")


def _group(argument: str | None) -> str:
    argument = "".join((argument or "").split())
    return argument if _ONE.fullmatch(argument) else f"({argument})"


def _name(match: re.Match[str]) -> str:
    name, sign = match[1], match[2]
    if name in _WITH_ARGUMENTS:
        return match[0]
    return _SIGNS.get(name, name) if name else _ESCAPED.get(sign, sign)
