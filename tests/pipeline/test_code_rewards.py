"""Training on programs by the command that the stage's page shows, and on problems of two kinds."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from stages._contract.artifacts import read_jsonl, sha256_file, sha256_tree
from stages.grpo import rewards
from tests.repository import call, change, dvc, ran, read

pytestmark = [pytest.mark.pipeline, pytest.mark.sandbox]

ROOT = Path(__file__).parents[2]
SMALL = {"grpo.max_steps": 2, "grpo.max_completion_length": 8}


@pytest.fixture
def clone(recipe: Path, tmp_path: Path) -> Path:
    """Returns a copy of the repository that may be changed."""
    return Path(shutil.copytree(recipe, tmp_path / "clone", symlinks=True))


def read_command() -> list[str]:
    """Returns the words of the command that the page shows."""
    page = (ROOT / "stages/grpo/README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"```sh\n(dvc exp run .*?)```", page, re.DOTALL)
    return shlex.split(command.replace("\\\n", " "))


def test_command_of_the_page_trains_on_programs(clone: Path) -> None:
    words = read_command()
    source = next(word for word in words if word.startswith("+prompts.sources.programs="))
    assert sha256_file(ROOT / "stages/prompts/problems/python.jsonl") in source
    settings = [f"-S{key}={value}" for key, value in SMALL.items()]
    done = call(clone, *words, *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ran(done.stdout) == ["grpo", "prompts"]
    metrics = read(clone, "metrics/grpo.json")
    assert metrics["num_prompts"] == 60
    assert metrics["final_code"] == 0.0  # the tiny model writes no code, and it is scored
    assert metrics["unscorable_rate"] == 0.0
    run = read(clone, "runs/grpo.json")
    assert run["inputs"].keys() == {"artifacts/base", "artifacts/prompts/rl.jsonl"}
    assert run["facts"]["rewards"] == {
        "version": rewards.VERSION,
        "code_sha256": sha256_tree(clone / "stages/grpo/rewards"),
    }
    columns = {"reward", "code", "unscorable/code", "kl", "step"}
    log = read_jsonl(clone / "artifacts/grpo/log.jsonl")
    assert all(row.keys() > columns for row in log)
    assert not {"answer_accuracy", "unscorable/answer_accuracy"} & log[0].keys()


def test_problems_of_two_kinds_train_together(clone: Path) -> None:
    test = {"type": "stdin_stdout", "input": "", "output": "1"}
    info = {"language": "python", "test_cases": [test]}
    rows = [{"q": f"Print {n}.", "info": info} for n in range(20)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (clone / "programs.jsonl").write_text(lines, encoding="utf-8")
    programs = {
        "kind": "jsonl",
        "path": "programs.jsonl",
        "sha256": sha256_file(clone / "programs.jsonl"),
        "question_field": "q",
        "answer_field": None,
        "answer_after": None,
        "solution_field": None,
        "columns": ["info"],
        "max_invalid": 0,
        "num_train": 0,
        "num_rl": 20,
        "num_evaluate": 0,
    }
    names = {"answer_accuracy": 1.0, "answer_format": 0.25, "code": 1.0}
    change(clone, {"prompts.sources.programs": programs, "grpo.rewards": names, **SMALL})
    done = call(clone, "python", "-m", "stages", "run", "prompts")
    assert done.returncode == 0, done.stderr
    done = call(clone, "python", "-m", "stages", "run", "grpo")
    assert done.returncode == 1
    assert "grpo.rewards.code needs verification_info in the rows of rl.jsonl" in done.stderr
    assert "Traceback" not in done.stderr
    (clone / "programs.jsonl").write_text(lines.replace('"info"', '"verification_info"'))
    programs["sha256"] = sha256_file(clone / "programs.jsonl")
    programs["columns"] = ["verification_info"]
    change(clone, {"prompts.sources.programs": programs, "grpo.max_steps": 4})
    dvc(clone, "repro", "grpo")
    metrics = read(clone, "metrics/grpo.json")
    assert metrics["num_prompts"] == 40
    assert metrics["unscorable_rate"] == 0.0
    log = read_jsonl(clone / "artifacts/grpo/log.jsonl")
    scored = {name: [row[name] is not None for row in log] for name in names}
    assert all(scored["answer_format"])
    assert any(scored["answer_accuracy"])
    assert any(scored["code"])
