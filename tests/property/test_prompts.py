"""Properties of the splits for any problems, not only for those of the examples."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from stages.prompts.decontaminate import LeakDetector, Match
from stages.prompts.latex import plain
from stages.prompts.params import (
    BoilerplateParams,
    DecontaminationParams,
    JsonlSource,
    PromptsParams,
)
from stages.prompts.pool import Store, make_pool
from stages.prompts.sources import Problem
from stages.prompts.split import Splits, split
from stages.prompts.text import ngrams, normalise, sort_words, words

if TYPE_CHECKING:
    from random import Random

    from hypothesis.strategies import DrawFn, SearchStrategy

N = 3
# Few words and a template, so that repeats, leaks and boilerplate are frequent.
WORDS = st.sampled_from(["a", "b", "c", "1", "2", "+", "-", "A,", "b."])
TEXTS = st.lists(WORDS, min_size=1, max_size=7).map(" ".join)
TEMPLATED = TEXTS.map(lambda text: f"Now compute this: {text}")
PROBLEMS = st.builds(
    Problem, st.one_of(TEXTS, TEMPLATED), st.sampled_from(["0", "1"]), st.one_of(st.just(""), TEXTS)
)


def source(num_train: int, num_rl: int, num_evaluate: int) -> JsonlSource:
    return JsonlSource(
        kind="jsonl",
        path="unused.jsonl",
        sha256="0" * 64,
        question_field="question",
        answer_field="answer",
        answer_after=None,
        solution_field=None,
        columns=[],
        max_invalid=0,
        num_train=num_train,
        num_rl=num_rl,
        num_evaluate=num_evaluate,
    )


@st.composite
def cases(draw: DrawFn) -> tuple[PromptsParams, dict[str, list[Problem]]]:
    """Draws parameters of one to three sources, and the sources' problems."""
    params = PromptsParams(
        image="cpu",
        seed=draw(st.integers(0, 3)),
        system_prompt=None,
        examples="unused.jsonl",
        decontamination=DecontaminationParams(
            ngram=N,
            boilerplate=BoilerplateParams(
                ngram=2, min_frequency=0.4, num_rows=draw(st.integers(3, 20))
            ),
            against={},
            max_matches=5,
        ),
        sources={
            name: source(*asked)
            for name, asked in zip(
                "abc",
                [(1, 1, 2), *draw(st.lists(st.sampled_from([(0, 0, 2), (1, 1, 0)]), max_size=2))],
                strict=False,
            )
        },
        near_duplicates=None,
        mixture=None,
        traces=None,
    )
    rows: SearchStrategy[list[Problem]] = st.lists(PROBLEMS, min_size=4, max_size=30)
    return params, {name: draw(rows) for name in params.sources}


def attempt(params: PromptsParams, problems: dict[str, list[Problem]]) -> Splits:
    """Returns the splits; a case with too few clean problems is no example."""
    try:
        folder = Path(tempfile.gettempdir())
        pools = {
            name: make_pool(rows, params.seed, Store(folder), []) for name, rows in problems.items()
        }
        return split(pools, params, [])
    except ValueError as error:
        assert "can be used" in str(error)  # noqa: PT017 - the only mistake these cases can make
        assume(False)
        raise


@given(cases())
def test_no_problem_is_in_two_splits(case: tuple[PromptsParams, dict[str, list[Problem]]]) -> None:
    splits = attempt(*case)
    evaluate = [row for rows in splits.evaluate.values() for row in rows]
    parts = [
        {normalise(row["prompt"][0]["content"]) for row in rows}
        for rows in (splits.train, splits.rl, evaluate)
    ]
    assert len(parts[0]) == len(splits.train)
    assert len(parts[1]) == len(splits.rl)
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


@given(cases())
def test_ids_are_unique_and_counts_are_met(
    case: tuple[PromptsParams, dict[str, list[Problem]]],
) -> None:
    params, _ = case
    splits = attempt(*case)
    evaluate = [row for rows in splits.evaluate.values() for row in rows]
    ids = [row["id"] for row in [*splits.train, *splits.rl, *evaluate]]
    assert len(ids) == len(set(ids))
    for name, asked in params.sources.items():
        counts = [
            sum(row["task"] == name for row in rows)
            for rows in (list(splits.train), list(splits.rl), list(splits.evaluate.get(name, ())))
        ]
        assert counts == [asked.num_train, asked.num_rl, asked.num_evaluate]


@given(cases(), st.randoms(use_true_random=False))
def test_order_of_rows_and_sources_does_not_matter(
    case: tuple[PromptsParams, dict[str, list[Problem]]], random: Random
) -> None:
    params, problems = case
    splits = attempt(params, problems)
    shuffled = {
        name: random.sample(problems[name], len(problems[name])) for name in reversed(problems)
    }
    again = attempt(params, shuffled)
    assert (list(again.train), list(again.rl)) == (list(splits.train), list(splits.rl))
    assert {name: list(rows) for name, rows in again.evaluate.items()} == {
        name: list(rows) for name, rows in splits.evaluate.items()
    }
    assert again.report == splits.report
    assert [found.rows for found in again.matches.values()] == [
        found.rows for found in splits.matches.values()
    ]


@given(cases())
def test_no_clean_ngram_is_shared_with_the_evaluation(
    case: tuple[PromptsParams, dict[str, list[Problem]]],
) -> None:
    """Recomputed from the files and the report's boilerplate, in the plainest way."""
    params, problems = case
    splits = attempt(params, problems)
    boilerplate = {
        gram for grams in splits.report["decontamination"]["boilerplate"].values() for gram in grams
    }
    leaked = set()
    for rows in splits.evaluate.values():
        for row in rows:
            leaked |= clean_ngrams(row, problems, boilerplate)
    for row in [*splits.train, *splits.rl]:
        assert not clean_ngrams(row, problems, boilerplate) & leaked


def clean_ngrams(
    row: dict[str, Any], problems: dict[str, list[Problem]], boilerplate: set[str]
) -> set[str]:
    """Returns the n-grams of a row's question and solution of which no word is boilerplate."""
    question = row["prompt"][0]["content"]
    solution = min(
        problem
        for problem in problems[row["task"]]
        if normalise(problem.question) == normalise(question)
    ).solution
    grams = set()
    for text in (question, solution):
        sequence = words(text)
        marked = [
            any(" ".join(sequence[i : i + 2]) in boilerplate for i in (at - 1, at) if i >= 0)
            for at in range(len(sequence))
        ]
        for start in range(len(sequence) - N + 1):
            if not any(marked[start : start + N]):
                grams.add(" ".join(sequence[start : start + N]))
    return grams


# What formulas are made of; random ones of it are seldom well-formed.
FRAGMENTS = st.sampled_from(
    [
        *(
            "$",
            "$$",
            r"\(",
            r"\)",
            r"\[",
            r"\]",
            "\\",
            r"\$",
            r"\{",
            r"\}",
            "{",
            "}",
            " ",
            "^",
            "_",
        ),
        *(r"\frac", r"\dfrac", r"\sqrt", r"\text", r"\mathrm", r"\left", r"\right", r"\pi", r"\le"),
        *(
            r"\,",
            r"\\",
            "x",
            "a+b",
            "12",
            "5.",
            "=",
            "°",
            "\n",
            r"\begin{cases}",
            "~",
            "&",
            "²",
            "_",
        ),
    ]
)
FORMULAS = st.lists(FRAGMENTS, max_size=20).map("".join)


@given(st.one_of(FORMULAS, st.text()))
def test_plain_formulas_are_plain(text: str) -> None:
    assert plain(plain(text)) == plain(text)
    assert normalise(normalise(text)) == normalise(text)


@given(st.lists(st.sampled_from(["a", "b1", "+", "-", "=", "(", ")", "2", "1.5"])), st.data())
def test_spaces_in_a_formula_mean_nothing(signs: list[str], data: st.DataObject) -> None:
    spaced = "".join(
        f"{sign}{data.draw(st.sampled_from(['', ' ', chr(92) + ', ']))}" for sign in signs
    )
    assert normalise(rf"so \( {spaced} \) holds") == normalise(rf"so \({''.join(signs)}\) holds")


LEAKY = st.lists(
    st.sampled_from(
        ["a", "b", "c,", "1", "A", "$x + 1$", r"\(x+1\)", "?", "t", "u", "\xa0", "\n", "1+2", "+"]
    ),
    max_size=9,
).map(" ".join)
PAIRS = st.lists(st.builds(Problem, LEAKY, st.just("1"), LEAKY), max_size=6)
GRAMS = st.lists(st.tuples(*[st.sampled_from(["a", "b", "t", "u", "1 + 2"])] * 2), max_size=3)


@given(PAIRS, PAIRS, GRAMS, st.integers(1, 5))
def test_search_finds_what_sets_of_ngrams_find(
    evaluation: list[Problem], problems: list[Problem], boilerplate: list[tuple[str, str]], n: int
) -> None:
    params = DecontaminationParams(
        ngram=n,
        boilerplate=BoilerplateParams(ngram=2, min_frequency=0.5, num_rows=9),
        against={},
        max_matches=0,
    )
    entries = [(f"e-{number}", problem) for number, problem in enumerate(evaluation)]
    found = LeakDetector(entries, boilerplate, params).match_all(problems)
    assert found == [scan(problem, entries, set(boilerplate), n) for problem in problems]


def scan(
    problem: Problem, entries: list[tuple[str, Problem]], boilerplate: set[tuple[str, str]], n: int
) -> Match | None:
    """Returns the match in the plainest way: sets of n-grams of what boilerplate leaves."""

    def parts_of(text: str) -> list[tuple[str, ...]]:
        sequence = words(text)
        dropped = {
            at + i
            for at in range(len(sequence))
            for i in (0, 1)
            if sequence[at : at + 2] in boilerplate
        }
        parts: list[tuple[str, ...]] = [()]
        for at, word in enumerate(sequence):
            parts = [*parts, ()] if at in dropped else [*parts[:-1], (*parts[-1], word)]
        return parts

    def grams_of(given: Problem) -> set[tuple[str, ...]]:
        texts = (given.question, given.solution)
        return {gram for text in texts for part in parts_of(text) for gram in ngrams(part, n)}

    def core_of(given: Problem) -> str:
        rest = [word for part in parts_of(given.question) for word in part]
        return " ".join(rest or words(given.question))

    shared = [
        (gram, number, name)
        for number, (name, entry) in enumerate(entries)
        for gram in grams_of(problem) & grams_of(entry)
    ]
    if shared:
        gram, _, name = min(shared)
        return Match("ngram", name, " ".join(gram))
    for name, entry in entries:
        if sort_words(core_of(entry)) == sort_words(core_of(problem)):
            return Match("whole", name, core_of(problem))
    return None


@given(st.text())
@example("0!")
@example("(2 + 3)!")
@example("f'(x) and 2'(x)")
def test_normalising_is_idempotent(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.lists(st.integers(0, 999), min_size=2, max_size=4), st.data())
def test_expressions_that_differ_stay_different(numbers: list[int], data: st.DataObject) -> None:
    signs = data.draw(st.lists(st.sampled_from("+-*/"), min_size=3, max_size=3))
    other = data.draw(st.lists(st.sampled_from("+-*/"), min_size=3, max_size=3))
    one, two = (
        "".join(f"{n} {s} " for n, s in zip(numbers, ss, strict=False)) for ss in (signs, other)
    )
    same = signs[: len(numbers)] == other[: len(numbers)]
    assert (normalise(one) == normalise(two)) == same
