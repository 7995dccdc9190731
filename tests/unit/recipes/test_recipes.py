"""The shipped recipes: they parse, hold together, and their graphs resolve."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

from stages._contract.params import load_all, stage_names
from stages._launch.resources import load_resources, load_server
from stages._plan.estimate import estimate_recipe, render_estimates
from stages._plan.hardware import H100
from stages.fetch.params import HubSource

ROOT = Path(__file__).parents[3]
RECIPES = {path.stem: path for path in sorted((ROOT / "recipes").glob("*.yaml"))}
DEFAULT = "smollm2-cpu"
ON_GPUS = sorted(RECIPES.keys() - {DEFAULT})
IMAGES = {
    "generate": "serve",
    "evaluate": "evaluate",
    "report": "evaluate",
    **dict.fromkeys(("fetch", "prompts", "filter", "sft", "preference", "grpo"), "train"),
}
NO_COMMIT_KNOWN = {"openr1-distill-7b"}


@pytest.fixture(params=sorted(RECIPES))
def chosen(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Goes into a folder whose params.yaml is the recipe; returns its sections."""
    shutil.copyfile(RECIPES[request.param], tmp_path / "params.yaml")
    (tmp_path / "slurm").mkdir()
    shutil.copyfile(ROOT / "slurm/resources.yaml", tmp_path / "slurm/resources.yaml")
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    monkeypatch.chdir(tmp_path)
    return load_all(Path("params.yaml"))


def test_default_is_a_recipe_to_the_byte() -> None:
    """After a change of params.yaml: `cp params.yaml recipes/smollm2-cpu.yaml`."""
    assert RECIPES[DEFAULT].read_bytes() == (ROOT / "params.yaml").read_bytes()


def test_every_recipe_of_the_readme_is_there() -> None:
    text = (ROOT / "recipes/README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \[([\w.-]+)\]", text, re.MULTILINE)) == RECIPES.keys()


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipe_carries_its_name(name: str) -> None:
    assert load_all(RECIPES[name])["report"].recipe == name
    assert RECIPES[name].read_text(encoding="utf-8").startswith("# ")


def test_needs_fit_the_stages(chosen: dict[str, Any]) -> None:
    for stage in [*stage_names(), "controller"]:
        needs = load_resources(stage)  # checks nodes and GPUs against num_processes
        engine = getattr(chosen.get(stage), "engine", None)
        if needs.gpus_per_node and engine is not None:
            assert needs.gpus_per_node == engine.tensor_parallel_size
    has_server = chosen["grpo"].use_vllm and chosen["grpo"].vllm_mode == "server"
    server = load_server("grpo", load_resources("grpo"))  # checks its GPUs and its time
    assert (server is not None) == has_server


def test_graph_resolves(chosen: dict[str, Any]) -> None:
    repo = Repo.init(".", no_scm=True)
    stages = {stage.name: stage for stage in repo.index.stages}
    names = {name.partition("@")[0] for name in stages}
    assert names == set(stage_names()) - {"preference"}, "which tracks alone run"
    cells = [name for name in stages if name.startswith("evaluate@")]
    assert len(cells) == 3 * len(chosen["report"].tasks)
    deps = {
        name: {
            Path(dep.fs_path).relative_to(Path.cwd()).as_posix()
            for dep in stage.deps
            if not hasattr(dep, "params")
        }
        for name, stage in stages.items()
    }
    for name in deps.keys() - {"report"}:  # which reads files by the standard library
        image = chosen[name.partition("@")[0]].image
        assert f"containers/{image}.lock.txt" in deps[name], name
    assert chosen["sft"].dataset in deps["sft"]
    assert chosen["grpo"].model in deps["grpo"]
    repo.close()


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_packages_of_its_images_are_locked(name: str) -> None:
    images = {section.image for section in load_all(RECIPES[name]).values()}
    for image in images:
        assert (ROOT / f"containers/{image}.lock.txt").is_file()
    assert images == ({"cpu"} if name == DEFAULT else set(IMAGES.values()))


@pytest.mark.parametrize("name", ON_GPUS)
def test_images_batches_and_lengths_of_gpu_recipes(name: str) -> None:
    sections = load_all(RECIPES[name])
    assert {stage: section.image for stage, section in sections.items()} == IMAGES
    sft, grpo = sections["sft"], sections["grpo"]
    per_step = grpo.per_device_train_batch_size * grpo.num_processes
    assert per_step * grpo.gradient_accumulation_steps == 32 * 16, "R1: 32 questions x 16"
    assert grpo.generation_batch_size % grpo.num_generations == 0
    assert grpo.vllm_max_model_length > grpo.max_completion_length
    assert sections["generate"].engine.max_model_len > sections["generate"].max_tokens
    assert sft.use_liger_kernel
    assert sections["fetch"].eos_token == "<|im_end|>"  # noqa: S105 - no password
    for task in sections["report"].tasks:
        assert (ROOT / f"stages/evaluate/tasks/{task}.yaml").is_file()
        assert sections["prompts"].sources[task].num_evaluate > 0


@pytest.mark.parametrize("name", ON_GPUS)
def test_held_out_benchmarks_are_in_every_gpu_recipe(name: str) -> None:
    sources = load_all(RECIPES[name])["prompts"].sources
    assert {key: sources[key].num_evaluate for key in ("math_500", "aime_2024", "aime_2025")} == {
        "math_500": 500,
        "aime_2024": 30,
        "aime_2025": 30,
    }


@pytest.mark.parametrize("name", ON_GPUS)
def test_every_commit_is_in_the_readme(name: str) -> None:
    text = (ROOT / "recipes/README.md").read_text(encoding="utf-8")
    sections = load_all(RECIPES[name])
    source = sections["fetch"].source
    assert isinstance(source, HubSource)
    assert (source.revision is None) == (name in NO_COMMIT_KNOWN)
    pins = {source.repo: source.revision}
    pins |= {
        found.repo: found.revision
        for found in sections["prompts"].sources.values()
        if found.kind == "hub"
    }
    traces = sections["prompts"].traces
    if traces is not None:
        pins[traces.repo] = traces.revision
    for repo, revision in pins.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{repo}` |"))
        assert (f"`{revision}`" if revision else "none found") in row


@pytest.mark.parametrize("name", ON_GPUS)
def test_estimates_fit_their_gpus_and_their_time(name: str) -> None:
    for entry in estimate_recipe(load_all(RECIPES[name])):
        assert entry.memory_bytes < H100.memory_bytes, entry.stage
        assert entry.hours < 24 * 7, entry.stage


def test_a_reference_that_follows_is_gathered_whole_under_zero_3() -> None:
    """TRL's SyncRefModelCallback: a 32B and its reference on one GPU are 131 GB."""
    sections = load_all(RECIPES["r1-distill-qwen-32b"])
    followed = replace(sections["grpo"], sync_ref_model=True)
    _, _, grpo = estimate_recipe(sections | {"grpo": followed})
    assert grpo.memory_bytes > H100.memory_bytes
    assert "DOES NOT FIT" in render_estimates("x", sections | {"grpo": followed})


def test_estimates_say_what_they_are() -> None:
    text = render_estimates(DEFAULT, load_all(RECIPES[DEFAULT]))
    assert "nothing was measured" in text
    assert "The recipe is for CPUs" in text
    text = render_estimates("x", load_all(RECIPES["openr1-distill-7b"]))
    assert "350,000 traces of 6,000 tokens x 5 epochs" in text
    assert "DOES NOT FIT" not in text
