"""The strict loader: every way of being wrong has its message."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages._contract import params
from stages._contract.params import ParamsError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Returns a copy of the shipped params.yaml."""
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


def change(file: Path, key: str, value: object) -> None:
    """Sets a dotted key; `...` deletes it."""
    yaml = YAML()
    sections = yaml.load(file)
    *folders, last = key.split(".")
    section = sections
    for folder in folders:
        section = section[folder]
    if value is ...:
        del section[last]
    else:
        section[last] = value
    yaml.dump(sections, file)


def test_shipped_file_loads_with_its_values(file: Path) -> None:
    sections = params.load_all(file)
    assert sorted(sections) == params.stage_names()
    assert sections["grpo"].learning_rate == pytest.approx(1.5e-5)
    assert sections["grpo"].rewards == {"answer_accuracy": 1.0, "answer_format": 0.25}
    assert sections["generate"].engine.block_size == 32
    assert sections["prompts"].sources["larger_sums"].dataset == "basic_arithmetic"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("grpo.betta", 0.1, "grpo: unknown key 'betta': did you mean 'beta'?"),
        ("grop", {}, "unknown key 'grop': did you mean 'grpo'?"),
        ("grpo.beta", ..., "grpo: 'beta' is missing"),
        ("filter", ..., "'filter' is missing"),
        ("grpo.learning_rate", "1e-5x", "grpo.learning_rate: expected float, got str '1e-5x'"),
        ("grpo.learning_rate", True, "grpo.learning_rate: expected float, got bool True"),
        ("grpo.max_steps", 1.5, "grpo.max_steps: expected int, got float 1.5"),
        ("grpo.max_steps", True, "grpo.max_steps: expected int, got bool True"),
        ("grpo.rewards", {"accuracy": "much"}, "grpo.rewards.accuracy: expected float, got str"),
        ("grpo.rewards", ["accuracy"], "grpo.rewards: expected dict, got "),
        ("grpo.loss_type", "ppo", "grpo.loss_type: expected one of 'grpo', 'bnpo', "),
        ("grpo.save_steps", "often", "grpo.save_steps: expected int or null, got str 'often'"),
        ("grpo.num_generations", 1, "grpo.num_generations must be >= 2, not 1: "),
        ("generate.engine", 3, "generate.engine: expected a section, got int 3"),
        ("generate.engine.bloc_size", 32, "did you mean 'block_size'?"),
        ("fetch.source.kind", "ftp", "fetch.source.kind must be one of pypi, hub, path, not 'ftp'"),
        ("fetch.source.sha256", ..., "fetch.source: 'sha256' is missing"),
        ("report.tasks", "arithmetic", "report.tasks: expected list, got str 'arithmetic'"),
        ("report.tasks", [1], r"report.tasks[0]: expected str, got int 1"),
        ("generate.engine.block_size", 16, "generate.engine.block_size must be a multiple of 32"),
        ("evaluate.engine.max_num_seqs", 0, "evaluate.engine.max_num_seqs must be >= 1, not 0"),
        ("prompts.sources.larger_sums.num_rl", -1, "prompts.sources.larger_sums.num_rl must be >="),
        ("prompts.sources.larger_sums.config.seed", 1, "larger_sums.config.seed is set by the"),
        ("filter.thought.repetition_n_grams", 0, "filter.thought.repetition_n_grams must be >= 1"),
        ("report.models", {2024: "x"}, "report.models: the name 2024 is of type int: write it in"),
        ("filter.mix", {1: 0.5}, "filter.mix: the name 1 is of type int: write it in quotes"),
        ("filter.mix", {None: 0.5}, "filter.mix: the name None is of type NoneType: write it"),
        ("filter.mix", {"a": float("inf")}, "filter.mix.a: expected a finite number, not inf"),
        ("generate.temperature", float("nan"), "generate.temperature: expected a finite number"),
        ("grpo.epsilon_high", float("-inf"), "grpo.epsilon_high: expected a finite number"),
        (
            "prompts.sources.larger_sums.config.value",
            float("nan"),
            "prompts.sources.larger_sums.config.value: expected a finite number, not nan",
        ),
    ],
)
def test_error_names_key_value_and_remedy(
    file: Path, key: str, value: object, message: str
) -> None:
    change(file, key, value)
    with pytest.raises(ParamsError) as error:
        params.load_all(file)
    assert message in str(error.value)
    assert str(error.value).count(key) <= 1, "the key is said once"


def test_source_whose_name_is_a_number_is_an_error(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("    larger_sums:  ", "    2024:  ", 1), encoding="utf-8")
    with pytest.raises(ParamsError, match="prompts.sources: the name 2024 is of type int: write"):
        params.load(file, "prompts")


def test_exponent_without_a_dot_is_a_number(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("learning_rate: 1.5e-5", "learning_rate: 1e-5"), encoding="utf-8")
    assert params.load(file, "grpo").learning_rate == pytest.approx(1e-5)


def test_integer_is_accepted_where_a_float_is_asked(file: Path) -> None:
    change(file, "grpo.beta", 0)
    beta = params.load(file, "grpo").beta
    assert (beta, type(beta)) == (0.0, float)


def test_duplicate_key_is_an_error(file: Path) -> None:
    with file.open("a", encoding="utf-8") as text:
        text.write("  confidence: 0.9\n")
    with pytest.raises(ParamsError, match="not valid YAML.*duplicate key"):
        params.load(file, "report")


def test_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="run from the repository's root"):
        params.load(tmp_path / "params.yaml", "grpo")


ZERO = {"track": "zero", "section": "first"}


def write_track(file: Path, text: str) -> None:
    folder = file.parent / "tracks" / "zero"
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(text, encoding="utf-8")


def test_section_of_a_track_is_laid_over_the_core_s(file: Path) -> None:
    text = "grpo: {first: {beta: 0.5, rewards: {format: 1.0}, reward_args: {code_cpu_s: 9.0}}}"
    write_track(file, text)
    core, values = params.load(file, "grpo"), params.load_cell(file, "grpo", ZERO)
    assert values.beta == 0.5
    assert values.rewards == {"format": 1.0}, "names of the user's are replaced as a whole"
    assert values.reward_args == replace(core.reward_args, code_cpu_s=9.0), "a section is not"
    changed = {"beta": 0.5, "rewards": values.rewards, "reward_args": values.reward_args}
    assert values == replace(core, **changed)


def test_section_of_another_kind_is_replaced_as_a_whole(file: Path) -> None:
    write_track(file, "fetch: {first: {source: {kind: path, path: x, sha256: 0}}}")
    with pytest.raises(ParamsError, match=r"first: fetch\.source\.sha256: expected str, got int 0"):
        params.load_cell(file, "fetch", ZERO)


def test_cell_without_a_section_has_the_core_s_values(file: Path) -> None:
    cell = {"track": "zero", "model": "first", "task": "arithmetic"}
    assert params.load_cell(file, "evaluate", cell) == params.load(file, "evaluate")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grpo: {second: {}}", "params.yaml: grpo: unknown key 'first': known: second"),
        ("gropo: {first: {}}", "params.yaml: unknown key 'gropo': did you mean 'grpo'?"),
        ("[grpo]", "params.yaml must have a section for each stage that the track runs"),
        ("grpo: 3", "params.yaml: grpo must name its sections, not be 3"),
        ("grpo: {1: {}}", "grpo: the name 1 is of type int: write it in quotes"),
        ("grpo: {first: }", "grpo.first must be a section, {} if nothing differs: None"),
        ("grpo: {first: {}}\nsft: {first: {}}", "sft.first: grpo has a section of that name, too"),
        ("grpo: {first: {image: train}}", "grpo.first.image: a track runs in the recipe's images"),
        ("grpo: {first: {betta: 0}}", "first: grpo: unknown key 'betta': did you mean 'beta'?"),
        ("grpo: {first: {beta: x}}", "first: grpo.beta: expected float, got str 'x'"),
        ("grpo: {first: {beta: -1}}", "first: grpo.beta must be >= 0"),
    ],
)
def test_error_in_a_track_names_file_section_and_key(file: Path, text: str, message: str) -> None:
    write_track(file, text)
    with pytest.raises(ParamsError) as error:
        params.load_cell(file, "grpo", ZERO)
    assert message in str(error.value)
    assert "tracks/zero/params.yaml" in str(error.value)


def test_track_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(ParamsError, match="there is no track 'zero'"):
        params.load_cell(file, "grpo", ZERO)
