"""What is published holds, and whatever is tampered with is named: in copies of this repository."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stages._audit.verify import verify
from tests.git import git

if TYPE_CHECKING:
    from collections.abc import Callable


def failed(duplicate: Path) -> dict[str, str]:
    """Returns the problems of the claims that do not hold, by claim."""
    return {claim.name: claim.problem for claim in verify(duplicate) if claim.problem is not None}


def test_what_is_published_holds(original: Path) -> None:
    assert failed(original) == {}
    assert len(verify(original)) > 40


def add_one(match: re.Match[str]) -> str:
    """Returns the match with its last digit changed."""
    return match[0][:-1] + str((int(match[0][-1]) + 1) % 10)


def change_digit(pattern: str) -> Callable[[str], str]:
    """Returns a function that changes the last digit of the first match."""
    return lambda text: re.sub(pattern, add_one, text, count=1)


# A file, what is done to it, the claim that does not hold then, and what is said of it.
Damage = tuple[str, "Callable[[str], str]", str, str]
DAMAGES: list[Damage] = [
    (
        "metrics/report/samples/grpo/arithmetic.jsonl",
        change_digit(r"<answer>\d+"),
        "metrics/report/samples/grpo/arithmetic.jsonl: the scores of 240 problems",
        "scored wrongly: arithmetic-",
    ),
    (
        "metrics/report/samples/sft/larger_sums.jsonl",
        lambda text: text.replace('"correct": [false]', '"correct": [true]', 1),
        "metrics/report/samples/sft/larger_sums.jsonl: the scores of 240 problems",
        "scored wrongly: larger_sums-",
    ),
    (
        "metrics/report/samples/sft/larger_sums.jsonl",
        lambda text: text.partition("\n")[2],
        "metrics/evaluate/sft.json",
        "larger_sums.num_problems is 240, recomputed 239",
    ),
    (
        "metrics/evaluate/grpo.json",
        change_digit(r'"accuracy": 0\.\d'),
        "metrics/evaluate/grpo.json",
        "arithmetic.accuracy is 0.",
    ),
    (
        "metrics/paired.json",
        change_digit(r'"ci_low": -?\d\.\d'),
        "metrics/paired.json",
        "ci_low is",
    ),
    (
        "metrics/report/results.md",
        change_digit(r"right \| 0\.0"),
        "metrics/report/results.md",
        "should be",
    ),
    (
        "README.md",
        change_digit(r"in the format \| 0\.0"),
        "README.md: the results",
        "missing: |",
    ),
    ("README.md", change_digit(r"\d\d\.\d(?= minutes)"), "README.md: claim C7", "not say"),
    ("REPRODUCE.md", change_digit(r"\d\d\.\d(?= ±)"), "REPRODUCE.md: claim C2", "not say"),
    (
        "stages/prompts/README.md",
        change_digit(r"\d+(?= distinct)"),
        "stages/prompts/README.md: claim pools",
        "does not say",
    ),
    (
        "runs/grpo.json",
        change_digit(r'"artifacts/sft": "\w*?\d'),
        "runs/grpo.json: inputs and outputs",
        "artifacts/sft is not what was written",
    ),
    (
        "runs/generate.json",
        change_digit(r'"artifacts/prompts/train.jsonl": "\w*?\d'),
        "runs/generate.json: inputs and outputs",
        "artifacts/prompts/train.jsonl is not what another stage read",
    ),
    (
        "metrics/seeds/2.json",
        change_digit(r'"prompts": "\w*?\d'),
        r"metrics/seeds/2.json: ran at \w{10} with this code",
        "prompts had another output",
    ),
    (
        "runs/grpo.steps.jsonl",
        change_digit(r'"weights": "\w*?\d'),
        "runs/grpo.steps.jsonl: the weights before the first step",
        "sft ended with others",
    ),
    (
        "dvc.lock",
        change_digit(r"stages/grpo\n      hash: md5\n      md5: \w*?\d"),
        "dvc.lock: grpo",
        "modified",
    ),
    (
        "dvc.lock",
        change_digit(r"outs:\n    - path: artifacts/sft\n      hash: md5\n      md5: \w*?\d"),
        "dvc.lock: grpo",
        "artifacts/sft was recorded with another hash by the stage that makes it",
    ),
    ("dvc.lock", change_digit(r"beta: 0\.001"), "dvc.lock: grpo", "grpo is "),
    ("params.yaml", change_digit(r"beta: 0\.001"), "dvc.lock: grpo", "grpo is "),
    ("stages/grpo/stage.py", lambda text: text + "\n", "dvc.lock: grpo", "modified"),
    (
        "dvc.yaml",
        lambda text: text.replace("run sft", "run grpo"),
        "dvc.lock: sft",
        "another command",
    ),
    (
        "containers/cpu.lock.txt",
        lambda text: re.sub(r"(?m)^(torch==\S+) \\\n.*\n", r"\1\n", text),
        "cpu.lock.txt: every package has a hash",
        "no sha256 for torch==2.13.0+cpu",
    ),
    (
        "runs/sft.json",
        lambda text: re.sub(r'"commit": "\w{40}"', f'"commit": "{"0" * 40}"', text),
        "README.md: commit 0000000000",
        "the README does not say `0000000000`",
    ),
]


def batch(damages: list[Damage]) -> list[list[Damage]]:
    """Returns the damages in few batches, each of other files and other claims."""
    batches: list[list[Damage]] = []
    for damage in damages:
        for others in batches:
            if all(damage[0] != other[0] and damage[2] != other[2] for other in others):
                others.append(damage)
                break
        else:
            batches.append([damage])
    return batches


@pytest.mark.parametrize("damages", batch(DAMAGES), ids=lambda damages: damages[0][2])
def test_tampering_is_named_even_if_it_is_committed(duplicate: Path, damages: list[Damage]) -> None:
    for name, damage, _, _ in damages:
        path = duplicate / name
        before = path.read_text(encoding="utf-8")
        path.write_text(damage(before), encoding="utf-8")
        assert path.read_text(encoding="utf-8") != before
    git(duplicate, "commit", "-qam", "tamper")
    found = failed(duplicate)
    for _, _, claim, problem in damages:
        (name,) = (name for name in found if name == claim or re.fullmatch(claim, name))
        assert problem in found[name]


def test_parameters_of_others_may_change_and_a_stage_s_own_may_not(duplicate: Path) -> None:
    path = duplicate / "params.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(f"# A comment.\n{text}")
    git(duplicate, "commit", "-qam", "a comment")
    assert failed(duplicate) == {}
    path.write_text(text.replace("held_out_share: 0.2", "held_out_share: 0.3"))
    git(duplicate, "commit", "-qam", "another preference, whose lock is of the one before")
    problems = failed(duplicate)
    assert all("reward_model" in name for name in problems)
    assert "changed since: params.yaml: preference" in problems.values()


def test_commit_that_is_not_in_the_history_is_not_compared(duplicate: Path) -> None:
    commit = json.loads((duplicate / "runs/sft.json").read_text(encoding="utf-8"))["commit"]
    for name in ("runs/sft.json", "README.md"):
        text = (duplicate / name).read_text(encoding="utf-8")
        (duplicate / name).write_text(text.replace(commit[:10], "0" * 10), encoding="utf-8")
        git(duplicate, "commit", "-qam", "squash")
    notes = {claim.name: claim.note for claim in verify(duplicate) if "sft ran at" in claim.name}
    assert notes["runs/: sft ran at 0000000000, with the code that is here"] == (
        "not compared: this history, squashed or shallow, has no such commit"
    )


def test_code_that_changed_since_the_run_is_named(duplicate: Path) -> None:
    path = duplicate / "runs/grpo.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(run | {"commit": git(duplicate, "rev-parse", "HEAD").strip()}))
    with (duplicate / "stages/grpo/stage.py").open("a", encoding="utf-8") as code:
        code.write("\n")
    git(duplicate, "commit", "-qam", "change")
    problems = {name: problem for name, problem in failed(duplicate).items() if "ran at" in name}
    names = {name.partition(" ran at")[0] for name in problems}
    assert names == {f"runs/: {path.stem}" for path in (duplicate / "runs").glob("grpo*.json")}
    assert set(problems.values()) == {"changed since: stages/grpo/stage.py"}
    notes = [claim.note for claim in verify(duplicate) if claim.name.startswith("metrics/seeds/")]
    assert notes == ["the code has changed since, the recorded responses have not"] * 4


def test_seeds_of_code_that_answered_otherwise_are_named(duplicate: Path) -> None:
    path = duplicate / "metrics/report/samples/grpo/arithmetic.jsonl"
    for name in (path, duplicate / "stages/grpo/stage.py"):
        with name.open("a", encoding="utf-8") as file:
            file.write("\n")
    git(duplicate, "commit", "-qam", "change")
    problems = {name: problem for name, problem in failed(duplicate).items() if "seeds" in name}
    assert len(problems) == 4
    assert all(problem.startswith("changed since: ") for problem in problems.values())
    assert all("stages/grpo/stage.py" in problem for problem in problems.values())


def test_uncommitted_change_is_named(duplicate: Path) -> None:
    with (duplicate / "dvc.lock").open("a") as lock:
        lock.write("# a comment\n")
    ((name, problem),) = failed(duplicate).items()
    assert name.startswith("git: the files are those of ")
    assert problem == "changed since: dvc.lock"


def test_artifacts_that_are_here_are_checked(duplicate: Path) -> None:
    (duplicate / "artifacts" / "filter").mkdir(parents=True)
    (duplicate / "artifacts" / "filter" / "train.jsonl").write_text(json.dumps({"id": "x"}) + "\n")
    problems = failed(duplicate)
    assert problems == {
        "dvc.lock: filter": "artifacts/filter is modified",
        "dvc.lock: sft": "artifacts/filter/train.jsonl is modified",
        "runs/filter.json: inputs and outputs": "artifacts/filter is not what this run wrote",
    }


def test_missing_file_is_a_failed_claim(duplicate: Path) -> None:
    (duplicate / "metrics" / "paired.json").unlink()
    assert "paired.json" in failed(duplicate)["scores"]
