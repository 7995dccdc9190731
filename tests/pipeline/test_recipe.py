"""The whole graph, as users run it, on a tiny model: the same dvc.yaml, stages and libraries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from stages._contract.artifacts import sha256_tree
from tests.pipeline.tiny_model import write_model, write_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.pipeline

CHECKPOINT = "checkpoints/*/trainer_state.json"
CELLS = ["evaluate@base-arithmetic", "evaluate@grpo-arithmetic", "evaluate@sft-arithmetic"]


def change(repo: Path, values: dict[str, Any]) -> None:
    """Sets dotted keys of params.yaml."""
    yaml = YAML()
    sections = yaml.load(repo / "params.yaml")
    for key, value in values.items():
        *folders, last = key.split(".")
        section = sections
        for folder in folders:
            section = section[folder]
        section[last] = value
    yaml.dump(sections, repo / "params.yaml")


def call(repo: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of this environment in the repository."""
    folder = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    for name, value in (("NAME", "a"), ("EMAIL", "a@b.example")):
        env |= {f"GIT_AUTHOR_{name}": value, f"GIT_COMMITTER_{name}": value}
    return subprocess.run(command, cwd=repo, env=env, text=True, capture_output=True, check=False)


def dvc(repo: Path, *arguments: str) -> str:
    done = call(repo, "dvc", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def git(repo: Path, *arguments: str) -> None:
    done = call(repo, "git", *arguments)
    assert done.returncode == 0, done.stderr


def would_run(repo: Path) -> list[str]:
    """Returns the stages that have changed, and all that depend on them."""
    lines = dvc(repo, "repro", "--dry", "--force-downstream").splitlines()
    return sorted(line.split("'")[1] for line in lines if line.startswith("Running stage"))


@contextmanager
def changed(file: Path, content: bytes) -> Iterator[None]:
    """Gives the file another content, and afterwards its own; as a new file, not through a link."""
    before = file.read_bytes()
    try:
        file.unlink()
        file.write_bytes(content)
        yield
    finally:
        file.unlink()
        file.write_bytes(before)


def start(repo: Path, stage: str) -> subprocess.Popen[str]:
    """Starts a stage as dvc.yaml does."""
    command = [sys.executable, "-m", "stages", "run", stage]
    return subprocess.Popen(command, cwd=repo, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "nanobind" not in stderr  # its report about leaks looks like a failure


def kill_when(process: subprocess.Popen[str], repo: Path, pattern: str) -> None:
    """Kills a stage as soon as a file of that pattern appears."""
    deadline = time.monotonic() + 120
    try:
        while not list(repo.glob(pattern)):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()


def ran(shown: str) -> list[str]:
    """Returns the stages that DVC says it ran."""
    return sorted(line.split("'")[1] for line in shown.splitlines() if line.startswith("Running"))


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a repository with the recipe, run once on a tiny model and committed."""
    repo = tmp_path_factory.mktemp("recipe")
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "stages", repo / "stages", ignore=skip)
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore", "containers/cpu.lock.txt"):
        (repo / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, repo / name)
    git(repo, "init", "-q")
    dvc(repo, "init", "-q")
    model = repo / "tiny"
    write_model(model)
    digest = write_problems(repo / "problems.jsonl")
    source = {
        "kind": "jsonl",
        "path": "problems.jsonl",
        "sha256": digest,
        "question_field": "q",
        "answer_field": "a",
        "answer_after": "####",
        "max_invalid": 0,
        "num_train": 40,
        "num_rl": 20,
        "num_evaluate": 40,
    }
    engine = {"max_model_len": 256, "max_num_batched_tokens": 256, "max_num_seqs": 32}
    engine |= {"kv_cache_memory_bytes": 2**25}
    change(
        repo,
        {
            "fetch.source": {"kind": "path", "path": "tiny", "sha256": sha256_tree(model)},
            "fetch.expected_sha256": None,
            "prompts.system_prompt": None,
            "prompts.sources": {"arithmetic": source},
            "generate.num_examples": 0,
            "generate.max_tokens": 12,
            "generate.shard_size": 16,
            "filter.min_rows": 8,
            "sft.per_device_train_batch_size": 8,
            "sft.save_steps": 2,
            "grpo.max_steps": 3,
            "grpo.save_steps": 1,
            "grpo.per_device_train_batch_size": 8,
            "grpo.max_completion_length": 12,
            "report.tasks": ["arithmetic"],
            **{f"generate.engine.{key}": value for key, value in engine.items()},
            **{f"evaluate.engine.{key}": value for key, value in engine.items()},
        },
    )
    dvc(repo, "repro")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "run")
    return repo


def read(repo: Path, name: str) -> Any:
    return json.loads((repo / name).read_text(encoding="utf-8"))


def test_all_stages_leave_what_they_promise(repo: Path) -> None:
    filtered = read(repo, "metrics/filter.json")
    assert filtered["num_generated"] == 160
    assert filtered["num_kept"] + sum(filtered["rejects"].values()) == 160
    assert 0 < filtered["pass_rate"] < 1
    assert read(repo, "metrics/grpo.json")["num_completions"] == 48
    for model in ("base", "sft", "grpo"):
        cell = read(repo, f"metrics/evaluate/{model}.json")["arithmetic"]
        assert cell["num_problems"] == 40
        assert 0 <= cell["accuracy"] <= cell["format_rate"] <= 1
        samples = repo / "artifacts" / "evaluate" / model / "arithmetic" / "samples.jsonl"
        assert len(samples.read_text(encoding="utf-8").splitlines()) == 40
    assert read(repo, "metrics/paired.json")["arithmetic"]["grpo_minus_sft"]["num_problems"] == 40
    header = (repo / "metrics/report/grpo.csv").read_text().splitlines()[0].split(",")
    assert {"step", "reward", "accuracy", "completion_length", "kl", "loss"} <= set(header)
    assert "| arithmetic | right |" in (repo / "metrics/report/results.md").read_text()
    assert list((repo / "work").iterdir()) == []


def test_manifests_say_what_ran(repo: Path) -> None:
    assert read(repo, "runs/generate.json")["facts"]["generator"] == "vllm"
    assert read(repo, "runs/grpo.json")["facts"]["generator"] == "transformers"
    assert read(repo, "runs/evaluate-base-arithmetic.json")["facts"]["backend"] == "vllm"
    for path in (repo / "runs").iterdir():
        manifest = read(repo, f"runs/{path.name}")
        assert manifest["packages"]["trl"] == "1.14.2"
        assert manifest["end"] >= manifest["start"]


def test_weights_differ_and_everything_else_stays(repo: Path) -> None:
    folders = [repo / "artifacts" / name for name in ("base", "sft", "grpo")]
    assert len({(folder / "model.safetensors").read_bytes() for folder in folders}) == 3
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1, name


def test_second_run_runs_nothing(repo: Path) -> None:
    assert "Data and pipelines are up to date." in dvc(repo, "repro")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"grpo.beta": 0.04}, ["evaluate@grpo-arithmetic", "grpo", "report"]),
        ({"report.confidence": 0.9}, ["report"]),
        ({"evaluate.seed": 1}, [*CELLS, "report"]),
        (
            {"filter.max_per_prompt": 1},
            [
                "evaluate@grpo-arithmetic",
                "evaluate@sft-arithmetic",
                "filter",
                "grpo",
                "report",
                "sft",
            ],
        ),
    ],
)
def test_a_changed_value_runs_what_depends_on_it(
    repo: Path, values: dict[str, Any], expected: list[str]
) -> None:
    with changed(repo / "params.yaml", (repo / "params.yaml").read_bytes()):
        change(repo, values)
        assert would_run(repo) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stages/grpo/README.md", []),
        ("stages/grpo/rewards.py", ["evaluate@grpo-arithmetic", "grpo", "report"]),
        ("stages/evaluate/tasks/arithmetic.yaml", [*CELLS, "report"]),
        ("stages/evaluate/tasks/larger_sums.yaml", []),
    ],
)
def test_a_touched_file_runs_what_depends_on_it(repo: Path, name: str, expected: list[str]) -> None:
    with changed(repo / name, (repo / name).read_bytes() + b"\n# touched\n"):
        assert would_run(repo) == expected


def test_experiment_runs_what_depends_on_it_and_going_back_runs_nothing(repo: Path) -> None:
    metrics, lock = repo / "metrics/paired.json", repo / "dvc.lock"
    before = metrics.read_bytes(), lock.read_bytes()
    values = ["-S", "grpo.beta=0.04", "-S", "report.confidence=0.8"]
    shown = dvc(repo, "exp", "run", *values)
    assert ran(shown) == ["evaluate@grpo-arithmetic", "grpo", "report"]
    assert metrics.read_bytes() != before[0]
    rows = [line.split() for line in dvc(repo, "params", "diff").splitlines()[1:]]
    assert rows == [
        ["params.yaml", "grpo.beta", "0.001", "0.04"],
        ["params.yaml", "report.confidence", "0.95", "0.8"],
    ]
    rows = [line.split() for line in dvc(repo, "metrics", "diff").splitlines()[1:]]
    assert "arithmetic.grpo_minus_base.ci_low" in {row[1] for row in rows}
    for _, _, old, new, difference in rows:
        assert float(new) - float(old) == pytest.approx(float(difference), abs=2e-5)
    change(repo, {"grpo.beta": 0.001, "report.confidence": 0.95})
    shown = dvc(repo, "repro")
    for name in ("grpo", "evaluate@grpo-arithmetic"):
        assert f"Stage '{name}' is cached - skipping run, checking out outputs" in shown
    assert ran(shown) == ["report"]  # DVC keeps no runs of a stage whose outputs are all in git
    assert (metrics.read_bytes(), lock.read_bytes()) == before


def test_killed_stages_go_on_and_give_the_same_bytes(repo: Path) -> None:
    """At once, since their starts take most of the time."""
    left = {"generate": "shard-00000.jsonl", "sft": CHECKPOINT, "grpo": CHECKPOINT}
    before = {stage: sha256_tree(repo / "artifacts" / stage) for stage in left}
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(
            lambda stage: kill_when(start(repo, stage), repo, f"work/{stage}/*/{left[stage]}"), left
        ):
            pass
    assert {stage: sha256_tree(repo / "artifacts" / stage) for stage in left} == before
    for checkpoints in repo.glob("work/*/*/checkpoints"):
        (checkpoints / "checkpoint-99").mkdir()  # as if killed while it was written
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda stage: finish(start(repo, stage)), left):
            pass
    assert {stage: sha256_tree(repo / "artifacts" / stage) for stage in left} == before
    assert read(repo, "runs/generate.json")["facts"]["resumed_after_num_prompts"] >= 16
    assert read(repo, "runs/sft.json")["facts"]["resumed_from_step"] > 0
    assert read(repo, "runs/grpo.json")["facts"]["resumed_from_step"] > 0


def test_traces_depend_on_problem_and_seed_alone(repo: Path) -> None:
    """Other shards, and the problems in another order, give the same traces."""
    out, prompts = repo / "artifacts/generate", repo / "artifacts/prompts/train.jsonl"
    traces = [line for path in sorted(out.iterdir()) for line in path.read_text().splitlines()]
    assert len(traces) == len(set(traces)) == 160
    reverse = b"".join(reversed(prompts.read_bytes().splitlines(keepends=True)))
    params = repo / "params.yaml"
    with changed(prompts, reverse), changed(params, params.read_bytes()):
        change(repo, {"generate.shard_size": 7})
        finish(start(repo, "generate"))
    shards = sorted(out.iterdir())
    assert len(shards) == 6
    assert [line for path in shards for line in path.read_text().splitlines()] == traces
    dvc(repo, "checkout", "--force", "generate")
    assert len(list(out.iterdir())) == 3


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("filter", "artifacts/generate/shard-00001.jsonl"),
        ("sft", "artifacts/base/model.safetensors"),
    ],
)
def test_corrupted_artifact_is_one_line_and_leaves_the_output(
    repo: Path, stage: str, name: str
) -> None:
    out, content = repo / "artifacts" / stage, (repo / name).read_bytes()
    before = sha256_tree(out)
    with changed(repo / name, content[: len(content) // 2]):
        done = call(repo, "python", "-m", "stages", "run", stage)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"rederive: {stage}: {name}")
    assert "is corrupted" in line
    assert sha256_tree(out) == before


def test_plots_are_drawn(repo: Path) -> None:
    shown = dvc(repo, "plots", "show", "--json")
    plots = json.loads(shown)["data"]
    assert {"reward", "accuracy", "completion_length", "kl", "grpo_loss", "sft_loss"} <= set(plots)
    assert json.dumps(plots).count('"step"') > 3
