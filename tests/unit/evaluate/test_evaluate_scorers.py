"""Each scorer of R1's protocol, on responses as models write them."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from typing import TYPE_CHECKING, Any

import nltk
import pytest
from nltk.tokenize.punkt import PunktTrainer, save_punkt_params

from stages.evaluate.tasks import bbq, boxed, crows_pairs, gpqa, ifeval, letters, programs
from stages.evaluate.tasks.scoring import SCORER, Scorer

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, Any]


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"<think>\boxed{1}</think>So $\boxed{\frac{3}{8}}$.", r"\frac{3}{8}"),
        (r"\boxed{1} and then \boxed{2}", "2"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\fbox {7}", "7"),
        (r"\boxed{\text{(C)}}", r"\text{(C)}"),
        (r"\boxed{\begin{pmatrix}1\\{2}\end{pmatrix}}", r"\begin{pmatrix}1\\{2}\end{pmatrix}"),
        (r"\boxed{1", None),
        (r"<think>\boxed{1}</think>It is 1.", None),
        (r"<think>Wait, \boxed{1}", None),
        (r"<think>So.</think> <think>Wait, \boxed{1}", None),
        ("1", None),
    ],
)
def test_last_box_after_the_thought(response: str, answer: str | None) -> None:
    """What the thought boxes is a draft, and what is not boxed is no answer."""
    assert boxed.read(response) == answer


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("0.375", r"\frac{3}{8}", True),
        (r"\frac{8}{3}", r"\frac{3}{8}", False),
        (r"(3,\pi/2)", r"\left( 3, \frac{\pi}{2} \right)", True),
        ("Evelyn", r"\text{Evelyn}", True),
        ("Briana", r"\text{Evelyn}", False),
        ("25", "025", True),
        (r"\$1{,}080", "1080", True),
        (r"10,\!080", "10080", True),
        (r"90^\circ", "90", True),
        ("1080", "1,080", True),
        (r"11\sqrt2", r"11\sqrt{2}", True),
        ("1, 2, 3", "3", False),
        ("4 + 7 + 9", "20", False),
        ("", "3", False),
        ("1" * 201, "1" * 201, False),
    ],
)
def test_mathematics(answer: str, gold: str, expected: bool) -> None:  # noqa: FBT001
    """References of MATH-500, AIME and GSM8K, in LaTeX or not."""
    assert boxed.is_right(answer, gold) is expected


def test_reference_that_says_nothing() -> None:
    """A problem without a reference is an error, not a wrong answer."""
    with pytest.raises(ValueError, match="the reference answer '' cannot be parsed"):
        boxed.prepare({"answer": " "})


def test_votes_are_counted_over_answers() -> None:
    """cons@k: two of five agree; an open thought has no vote."""
    responses = [r"\boxed{5}", r"\boxed{4}", r"<think>\boxed{4}", r"\boxed{6}", r"\boxed{4}"]
    problem = {"id": "a", "answer": "4"}
    answers, correct = boxed.SCORER.score(responses, problem)
    assert answers == ["5", "4", None, "6", "4"]
    assert correct == [False, True, False, False, True]
    assert boxed.SCORER.majority(answers, problem)
    assert boxed.SCORER.process_results(problem, [responses]) == {
        "accuracy": 0.4,
        "majority_accuracy": 1.0,
        "format_rate": 0.8,
    }


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("Answer: B", "B"),
        ("answer: (C)", "C"),
        ("**Answer: D**", "D"),
        ("**Answer**: **A**", "A"),
        ("Answer: $B$", "B"),
        ("Answer: A\nNo. Answer: B", "B"),
        (r"So $\boxed{C}$", "C"),
        (r"So $\boxed{\text{(C)}}$", "C"),
        ("Answer: Boron", None),
        ("The answer is B", None),
        ("<think>Answer: A</think>I do not know.", None),
        ("<think>Answer: A", None),
    ],
)
def test_letters(response: str, letter: str | None) -> None:
    """The last letter that is said to be the answer, after the thought."""
    assert letters.read(response) == letter


def _gpqa(name: str) -> Row:
    wrong = {f"Incorrect Answer {n}": f"wrong {n}" for n in (1, 2, 3)}
    return {"id": name, "answer": "right", **wrong}


def test_gpqa_orders_choices_by_the_problem() -> None:
    """The same order each time; over problems, the right one has each letter about as often."""
    letter_of = [gpqa.prepare(_gpqa(f"p{number}"))["letter"] for number in range(400)]
    assert letter_of == [gpqa.prepare(_gpqa(f"p{number}"))["letter"] for number in range(400)]
    assert all(70 <= letter_of.count(letter) <= 130 for letter in "ABCD")
    problem = gpqa.prepare(_gpqa("p0"))
    assert problem["choices"]["ABCD".index(problem["letter"])] == "right"
    with pytest.raises(ValueError, match="the choices must be 4 different texts"):
        gpqa.prepare({**_gpqa("p0"), "Incorrect Answer 2": "wrong 1"})


def _bbq(name: str, condition: str, polarity: str, label: int) -> Row:
    info = {"ans0": ["grandfather", "old"], "ans1": ["grandson", "nonOld"]}
    return {
        "id": name,
        "answer": str(label),
        "ans0": "The grandfather",
        "ans1": "The grandson",
        "ans2": "Cannot be determined",
        "answer_info": json.dumps(info | {"ans2": ["Cannot be determined", "unknown"]}),
        "additional_metadata": json.dumps({"stereotyped_groups": ["old"]}),
        "category": "Age",
        "context_condition": condition,
        "question_polarity": polarity,
    }


def test_bbq_knows_the_biased_answer() -> None:
    """Asked for the worse, it is the stereotyped group; asked for the better, the other one."""
    assert bbq.prepare(_bbq("a", "ambig", "neg", 2))["biased"] == ["A"]
    assert bbq.prepare(_bbq("a", "ambig", "nonneg", 2))["biased"] == ["B"]
    assert bbq.prepare(_bbq("a", "ambig", "neg", 2))["unknown"] == ["C"]
    with pytest.raises(ValueError, match="the answer must be the label, 0 to 2, not '3'"):
        bbq.prepare(_bbq("a", "ambig", "neg", 3))
    with pytest.raises(ValueError, match="context_condition is 'clear'"):
        bbq.prepare(_bbq("a", "clear", "neg", 2))


def test_bbq_scores() -> None:
    """By hand. Ambiguous: of 4 answers one is right, 2 of 3 are biased: 3/4 (2 * 2/3 - 1).

    Disambiguated: both are right, and one of two is the biased one: no bias.
    """
    said = {"p": "A", "q": "A", "r": "B", "s": "C", "t": "A", "u": "B"}
    rows = [_bbq(name, "ambig", "neg", 2) for name in "pqrs"]
    rows += [_bbq("t", "disambig", "neg", 0), _bbq("u", "disambig", "neg", 1)]
    problems = {row["id"]: bbq.prepare(row) for row in rows}
    samples = []
    for name, problem in problems.items():
        answers, correct = bbq.SCORER.score([f"Answer: {said[name]}"], problem)
        formatted = [True]
        samples.append({"id": name, "answers": answers, "correct": correct, "num_tokens": [3]})
        samples[-1]["formatted"] = formatted
    results = bbq.SCORER.summarise(samples, problems)
    assert results["accuracy"] == 0.5
    assert results["accuracy_ambig"] == 0.25
    assert results["accuracy_disambig"] == 1.0
    assert results["bias_score_ambig"] == pytest.approx(0.25)
    assert results["bias_score_disambig"] == 0.0
    only_ambiguous = bbq.SCORER.summarise(samples[:4], problems)
    assert only_ambiguous["bias_score_disambig"] is None


def test_letters_of_choices_that_are_not_there() -> None:
    """D is none of BBQ's three choices, and C none of two sentences: no answer, and no bias."""
    problem = bbq.prepare(_bbq("p", "ambig", "neg", 2))
    answers, correct = bbq.SCORER.score(["Answer: D", "Answer: A", "Answer: C"], problem)
    assert answers == [None, "A", "C"]
    row = {"id": "p", "answers": answers, "correct": correct, "num_tokens": [3] * 3}
    row["formatted"] = [answer is not None for answer in answers]
    results = bbq.SCORER.summarise([row], {"p": problem})
    assert results["bias_score_ambig"] == pytest.approx(2 / 3)  # one of one is biased, 2 of 3 wrong
    assert crows_pairs.SCORER.read("Answer: C") is None
    assert crows_pairs.SCORER.read("Answer: B") == "B"
    assert gpqa.SCORER.read("Answer: D") == "D"


def test_crows_pairs_counts_what_was_chosen() -> None:
    """Four pairs, two responses each: the stereotype in 3 of 6 choices, and two choose nothing."""
    said = {"p": "ML", "q": "MM", "r": "L-", "s": "-L"}
    problems, samples = {}, []
    for name, choices in said.items():
        prompt = [{"role": "user", "content": f"{name} stereotypes"}]
        row = {"id": name, "prompt": prompt, "answer": None, "bias_type": "age"}
        problem = crows_pairs.prepare({**row, "sent_less": f"{name} does not"})
        less = problem["letter"]
        letter = {"L": less, "M": "AB".replace(less, ""), "-": "neither"}
        assert problem["choices"]["AB".index(less)] == f"{name} does not"
        answers, correct = crows_pairs.SCORER.score(
            [f"Answer: {letter[choice]}" for choice in choices], problem
        )
        formatted = [answer is not None for answer in answers]
        sample = {"id": name, "answers": answers, "correct": correct, "num_tokens": [3, 3]}
        problems[name] = problem
        samples.append({**sample, "formatted": formatted})
    results = crows_pairs.SCORER.summarise(samples, problems)
    assert results["stereotype_rate"] == 0.5
    assert results["stereotype_rate_stderr"] > 0
    assert results["accuracy"] == 3 / 8
    assert results["format_rate"] == 6 / 8
    assert {problem["letter"] for problem in problems.values()} == {"A", "B"}
    with pytest.raises(ValueError, match="must be two different texts"):
        crows_pairs.prepare({**problems["p"], "sent_less": "p stereotypes"})


def _pack(tests: list[Row]) -> str:
    """Returns private tests as LiveCodeBench has them."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def _program(private: str, *, name: str | None = None) -> Row:
    kind = "stdin" if name is None else "functional"
    given, expected = ("1 2\n", "3\n") if name is None else ("[1, 2]\n1", "[2, 3]")
    return {
        "id": f"{name}-{private[:20]}",
        "metadata": json.dumps({} if name is None else {"func_name": name}),
        "starter_code": "",
        "public_test_cases": json.dumps([{"input": given, "output": expected, "testtype": kind}]),
        "private_test_cases": private,
    }


@pytest.mark.sandbox
def test_programs_pass_all_tests_or_none() -> None:
    """Public and private tests, from stdin and of a method; imports that LiveCodeBench adds."""
    stdin = _program(_pack([{"input": "5 5\n", "output": "10", "testtype": "stdin"}]))
    adds = "```python\nprint(sum(map(int, input().split())))\n```"
    guesses = "```python\nprint(3)\n```"
    scorer = programs.SCORER
    assert scorer.score([adds, guesses, "print(3)", f"<think>{adds}"], stdin) == (
        ["print(sum(map(int, input().split())))\n", "print(3)\n", None, None],
        [True, False, False, False],
    )
    method = _program(
        _pack([{"input": "[]\n1", "output": "[]", "testtype": "functional"}]), name="add"
    )
    right = (
        "```python\nclass Solution:\n    def add(self, xs: List[int], y: int) -> List[int]:\n"
        "        return [x + y for x in xs]\n```"
    )
    assert scorer.score([right, right.replace("x + y", "y")], method)[1] == [True, False]


def test_tests_that_cannot_be_read() -> None:
    """A pickle of anything but a text is refused before it does anything; so are no tests."""
    code = base64.b64encode(zlib.compress(b"cos\nsystem\n(S'true'\ntR.")).decode()
    with pytest.raises(ValueError, match="it names os.system"):
        programs.prepare(_program(code))
    number = base64.b64encode(zlib.compress(pickle.dumps(1))).decode()
    with pytest.raises(ValueError, match="a pickle of int"):
        programs.prepare(_program(number))
    with pytest.raises(ValueError, match="neither JSON nor a pickled text"):
        programs.prepare(_program("?"))
    with pytest.raises(ValueError, match="it has no tests"):
        programs.prepare({**_program("[]"), "public_test_cases": "[]"})
    unnamed = {**_program("[]", name="add"), "metadata": "{}"}
    with pytest.raises(ValueError, match="tests of a function that metadata does not name"):
        programs.prepare(unnamed)


def _instructed(*instructions: tuple[str, Row]) -> Row:
    return {
        "id": "-".join(name for name, _ in instructions),
        "prompt": [{"role": "user", "content": "Write about rain."}],
        "answer": None,
        "instruction_id_list": json.dumps([name for name, _ in instructions]),
        "kwargs": json.dumps([kwargs for _, kwargs in instructions]),
    }


def test_instructions() -> None:
    """Two instructions; the loose score forgives a first line."""
    problem = ifeval.prepare(
        _instructed(
            ("punctuation:no_comma", {"num_words": None}),
            ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}),
        )
    )
    responses = [
        "<think>rain, rain</think>It rains all day.",
        "Rain, rain, go away.",
        "Sure, here:\nIt rains all day.",
        "<think>It rains all day.",
    ]
    answers, correct = ifeval.SCORER.score(responses, problem)
    assert correct == [True, False, False, False]
    row = {"answers": answers, "correct": correct, "num_tokens": [9] * 4, "id": problem["id"]}
    row["formatted"] = [answer is not None for answer in answers]
    results = ifeval.SCORER.summarise([row], {problem["id"]: problem})
    assert results["accuracy"] == 0.25
    assert results["accuracy_loose"] == 0.5
    assert results["instruction_accuracy"] == pytest.approx((2 + 1 + 1 + 0) / 8)
    assert results["majority_accuracy"] is None


def test_what_an_instruction_leaves_open_is_drawn_alike_for_each_response() -> None:
    """How many placeholders, 1 to 4: neither other responses nor the other score change that."""
    open_ended: tuple[str, Row] = ("detectable_content:number_placeholders", {})
    problem = _instructed(open_ended)
    texts = ["[a] [b]", "[a] [b] [c]", "[b] [c]", "[a] [b] [c] [d]", "[b]", "[a] [c]"]
    alone = [verdict for text in texts for verdict in ifeval.judge([text], problem)]
    assert ifeval.judge(texts, problem) == alone == [False, False, False, True, False, False]
    twice = _instructed(open_ended, open_ended)
    row = {"answers": ["[a] [b] [c]"], "correct": [False]}
    assert ifeval.measure([(twice, row)]) == {
        "instruction_accuracy": 0.0,
        "instruction_accuracy_loose": 0.0,
        "accuracy_loose": 0.0,
    }


def test_language_is_detected_the_same_each_time() -> None:
    """Langdetect draws random numbers; a short text would now be one language, now another."""
    problem = _instructed(("language:response_language", {"language": "en"}))
    texts = ["ja so da", "non e il", "om de a"]
    found = [ifeval.judge(texts, problem) for _ in range(20)]
    assert found == [found[0]] * 20


def test_instructions_that_cannot_be_checked() -> None:
    """An unknown one, and one too many."""
    with pytest.raises(ValueError, match="must name instructions of IFEval"):
        ifeval.prepare(_instructed(("style:nice", {})))
    with pytest.raises(ValueError, match="must name instructions of IFEval"):
        ifeval.prepare({**_instructed(("punctuation:no_comma", {})), "kwargs": "[]"})


def test_sentences_need_punkt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nltk's data the message says how to get it; with a tokenizer there, it counts."""
    problem = _instructed(("change_case:capital_word_frequency", {}))
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(ValueError, match="need nltk's punkt_tab, .* nltk.downloader"):
        ifeval.prepare(problem)
    folder = tmp_path / "tokenizers" / "punkt_tab" / "english"
    folder.mkdir(parents=True)
    trainer = PunktTrainer("It rains. Dr. Snow went out. It rained again. He came home.")
    save_punkt_params(trainer.get_params(), dir=str(folder))
    frequency = {"capital_frequency": 2, "capital_relation": "at least"}
    problem = _instructed(("change_case:capital_word_frequency", frequency))
    ifeval.prepare(problem)
    assert ifeval.judge(["IT RAINS. It does.", "It rains."], problem) == [True, False]


@pytest.mark.parametrize(
    "scorer", [module.SCORER for module in (boxed, gpqa, bbq, crows_pairs, programs, ifeval)]
)
def test_no_response_is_wrong(scorer: Scorer) -> None:
    """An empty response has no answer for any scorer."""
    assert scorer.read("") is None
    assert scorer.score_answers([None], {"id": "x"}) == [False]


def test_format_scorer_keeps_what_it_wrote() -> None:
    """The tasks of the recipe have no answers in their samples."""
    assert not SCORER.keeps_answers
    row = {"responses": ["<think>a</think><answer> 3 </answer>", "3"]}
    assert SCORER.answers_of(row) == ["3", None]
