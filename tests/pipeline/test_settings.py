"""Settings and seeds where the computing is done: what was promised is looked for in the worker."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stages._contract.artifacts import read_jsonl
from stages._contract.params import load
from stages._contract.run import set_environment
from stages._contract.seeding import derive
from tests.repository import call, change, dvc, read

if TYPE_CHECKING:
    from stages.generate.params import GenerateParams

pytestmark = pytest.mark.pipeline

NAMES = ["a", "b"]
NUM_SAMPLES = 2
PROMPT = [1, 5, 6, 7]  # token ids
# What the worker's settings must not pass for: each was not set before the engine was started.
BROKEN: dict[str, dict[str, Any]] = {
    "environment": {"cpu_isa": "native"},
    "num_threads": {"num_threads": 2},
    "batch_invariant": {"batch_invariant": True},
    "dtype": {"dtype": "bfloat16"},
    "enforce_eager": {"enforce_eager": False},
}


def ask_engine(root: Path) -> None:
    """Prints what an engine's worker says of its settings and its requests' seeds, as JSON."""
    params: GenerateParams = load(root / "params.yaml", "generate")
    params = replace(params, num_threads=1, cpu_isa="portable", num_samples=NUM_SAMPLES)
    engine = params.engine
    from stages.generate.engine import (  # noqa: PLC0415 - as stages import it
        check_engine,
        engine_kwargs,
        prepare_environment,
    )

    set_environment("generate", params)
    prepare_environment(1, "portable")
    from vllm import LLM  # noqa: PLC0415 - reads the environment

    from stages.generate.sample import (  # noqa: PLC0415 - imports vllm
        draw_noise_once,
        sampling_params,
    )

    llm = LLM(**engine_kwargs(engine, root / "artifacts" / "base"))
    found: dict[str, Any] = {"settings": check_engine(llm, engine, 1, "portable"), "errors": {}}
    for name, changes in BROKEN.items():
        isa = changes.pop("cpu_isa", "portable")
        num_threads = changes.pop("num_threads", 1)
        try:
            check_engine(llm, replace(engine, **changes), num_threads, isa)
        except ValueError as error:
            found["errors"][name] = str(error)
    found["noise"] = [count_draws(llm, params)]
    draw_noise_once(llm)
    found["noise"].append(count_draws(llm, params))
    for number, (name, index) in enumerate((n, i) for n in NAMES for i in range(NUM_SAMPLES)):
        prompt = {"prompt_token_ids": PROMPT}
        llm.llm_engine.add_request(str(number), prompt, sampling_params(params, name, index))
    llm.llm_engine.step()
    (found["seeds"],) = llm.collective_rpc(_read_seeds)
    print(json.dumps(found))  # noqa: T201 - read by the fixture


def count_draws(llm: Any, params: GenerateParams) -> dict[str, Any]:
    """Returns samples, and how many numbers requests' seeds and others drew for them."""
    import torch  # noqa: PLC0415 - as stages import it

    from stages.generate.sample import sample  # noqa: PLC0415 - imports vllm

    draw, draws = torch.Tensor.exponential_, {"seeded": 0, "others": 0}

    def counted(noise: Any, *arguments: Any, generator: Any = None, **options: Any) -> Any:
        draws["seeded" if generator else "others"] += noise.numel()
        return draw(noise, *arguments, generator=generator, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "exponential_", counted)
        return {"draws": draws, "samples": sample(llm, dict.fromkeys(NAMES, PROMPT), params)}


def _read_seeds(worker: Any) -> list[int]:
    """Runs in the worker: the seeds of the generators that its requests sample with."""
    generators = worker.model_runner.input_batch.generators
    return sorted(generator.initial_seed() for generator in generators.values())


@pytest.fixture(scope="module")
def found(recipe: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", __name__, str(recipe)]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(command, cwd=root, text=True, capture_output=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"settings"')]
    assert len(lines) == 1, done.stderr
    answer: dict[str, Any] = json.loads(lines[0])
    return answer


def test_noise_is_drawn_once_and_samples_stay_the_same(found: dict[str, Any]) -> None:
    before, after = (noise["draws"] for noise in found["noise"])
    # Fails where vLLM has mended its own way: `draw_noise_once` can go then.
    assert before["others"] == before["seeded"] > 0
    assert after == {"seeded": before["seeded"], "others": 0}
    first, second = (noise["samples"] for noise in found["noise"])
    assert first == second
    assert len({row["response"] for row in first}) > 1  # sampled, not one greedy answer


def test_settings_arrive_in_the_worker(found: dict[str, Any]) -> None:
    assert found["settings"] == {
        "num_threads": 1,
        "cpu_capability": "AVX2",
        "mkl_branch": "compatible",
        "deterministic_algorithms": False,
        "environment": {
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_CBWR": "COMPATIBLE",
        },
        "dtype": "torch.float32",
        "enforce_eager": True,
        "batch_invariant": False,
        "seed": 0,
        "kernels": ["_C_AVX2"],
    }


@pytest.mark.parametrize("name", BROKEN)
def test_a_promise_that_did_not_arrive_is_an_error(found: dict[str, Any], name: str) -> None:
    assert name in found["errors"][name]


def test_each_request_has_its_own_seed_in_the_worker(found: dict[str, Any]) -> None:
    expected = [derive(0, "generate", name, i) for name in NAMES for i in range(NUM_SAMPLES)]
    assert found["seeds"] == sorted(expected)
    assert len(set(expected)) == len(expected)


@pytest.mark.parametrize("stage", ["generate", "sft", "grpo", "evaluate-sft-arithmetic"])
def test_manifests_have_the_settings(recipe: Path, stage: str) -> None:
    settings = read(recipe, f"runs/{stage}.json")["facts"]["settings"]
    assert settings["num_threads"] == 2
    assert settings["cpu_capability"] == "AVX2"
    assert settings["mkl_branch"] in ("avx2", "auto")
    assert settings["deterministic_algorithms"] == (stage in ("sft", "grpo"))


def test_steps_are_witnessed(recipe: Path) -> None:
    grpo = read_jsonl(recipe / "runs/grpo.steps.jsonl")
    assert [row["step"] for row in grpo] == [0, 1, 2, 3]
    assert set(grpo[1]) == {"step", "rollouts", "rewards", "advantages", "weights", "tensors"}
    sft = read_jsonl(recipe / "runs/sft.steps.jsonl")
    assert set(sft[1]) == {"step", "batch", "weights", "tensors"}
    assert sft[-1]["weights"] == grpo[0]["weights"], "grpo starts from what sft ended with"
    for rows in (sft, grpo):
        assert len(rows[0]["names"]) == len(rows[0]["tensors"].split())
    # sft's first step has a learning rate of 0, while it warms up.
    assert sft[1]["weights"] == sft[0]["weights"]
    assert len({row["weights"] for row in sft}) == len(sft) - 1
    assert len({row["weights"] for row in grpo}) == 4
    assert len({row["rollouts"] for row in grpo[1:]}) == 3
    generate = read_jsonl(recipe / "runs/generate.steps.jsonl")
    assert len({row["traces"] for row in generate}) == 40


def test_other_arithmetic_is_found_in_the_steps(recipe: Path, tmp_path: Path) -> None:
    """As on another machine: SSE2 instead of AVX2 in MKL, and the first tensor that shows it."""
    copy = tmp_path / "copy"
    shutil.copytree(recipe, copy)
    change(copy, {"sft.cpu_isa": "portable"})
    dvc(copy, "repro", "sft")
    done = call(recipe, "python", "-m", "stages", "bisect", str(recipe), str(copy))
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "stage sft: reads other params, and writes something else"
    # Step 1 has a learning rate of 0.
    assert re.match(r"  runs/sft.steps.jsonl, step 2: weights, first model\.\S+ \(\d+ of", lines[1])
    assert re.match(r"  facts.settings.environment.MKL_CBWR AVX2 against COMPATIBLE", lines[2])


if __name__ == "__main__":
    ask_engine(Path(sys.argv[1]))
