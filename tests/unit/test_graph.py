"""The graphs, core and tracks, against the code: names, files, every import among the deps."""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from stages._contract.params import load_all, load_cell, read_sections, stage_names
from stages._contract.places import metrics_of, out_of, params_of
from stages.evaluate.task import read_task

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SECTIONS = load_all(ROOT / "params.yaml")


STAGES = sorted(Repo(str(ROOT)).index.stages, key=lambda stage: str(stage.addressing))
CORE = [stage for stage in STAGES if Path(stage.path).parent == ROOT]
IDS = [stage.addressing for stage in STAGES]


def name_of(stage: Any) -> str:
    """Returns which of stages/ the command runs."""
    return str(stage.cmd.split()[4])


def cell_of(stage: Any) -> dict[str, str]:
    """Returns the cell that the stage's command names."""
    words = stage.cmd.split()
    return {word[2:]: words[i + 1] for i, word in enumerate(words) if word.startswith("--")}


def paths_of(entries: list[Any]) -> set[str]:
    """Returns deps or outs relative to the root, parameters left out."""
    return {
        Path(entry.fs_path).relative_to(ROOT).as_posix()
        for entry in entries
        if not hasattr(entry, "params")
    }


def walk_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Yields the nodes below, those inside functions too, but not what only type checkers read."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from walk_at_run_time(child)


def import_closure(file: Path, *, packages: bool = True) -> set[Path]:
    """Returns the files of `stages` that the file imports, directly or not, itself included.

    Without `packages`, what a package's __init__ imports is left out, and the __init__ itself.
    """
    found, waiting = set(), [file]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        for node in walk_at_run_time(ast.parse(current.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = [node.value]  # imported by name
            for name in names:
                if re.fullmatch(r"stages(\.\w+)+", name):
                    waiting += [
                        path
                        for path in files_of(name)
                        if path.is_file() and (packages or path.name != "__init__.py")
                    ]
    return found


def files_of(module: str) -> list[Path]:
    """Returns where the module may be, and what is run before it: the packages that it is in."""
    path = ROOT / module.replace(".", "/")
    parents = [parent / "__init__.py" for parent in path.parents if parent.is_relative_to(ROOT)]
    return [path.with_suffix(".py"), path / "__init__.py", *parents]


def test_sections_folders_stages_and_classes_have_the_same_names() -> None:
    names = stage_names()
    assert sorted(SECTIONS) == names
    core = {name_of(stage) for stage in CORE}
    assert {stage.name.partition("@")[0] for stage in CORE} == core
    # A reward model is for the last part of R1, which is a track: the core recipe needs none.
    assert set(names) - core == {"preference"}
    folders = [path.name for path in (ROOT / "stages").iterdir() if path.is_dir()]
    assert sorted(name for name in folders if not name.startswith("_")) == names
    assert [type(SECTIONS[name]).__name__ for name in names] == [
        f"{name.capitalize()}Params" for name in names
    ]


def test_graph_fits_on_two_screens() -> None:
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 130


@pytest.mark.parametrize("stage", STAGES, ids=IDS)
def test_deps_are_the_imports_and_the_inputs(stage: Any) -> None:
    name, cell = name_of(stage), cell_of(stage)
    module = importlib.import_module(f"stages.{name}.params")
    deps = paths_of(stage.deps)
    inputs = module.inputs(load_cell(ROOT / "params.yaml", name, cell), cell)
    data = set()
    for field in inputs.__dataclass_fields__:
        value = getattr(inputs, field)
        paths = value if isinstance(value, list) else [value]
        data |= {path.as_posix() for path in paths if path is not None}
    folder = ROOT / "stages" / name
    code = import_closure(folder / "params.py") | import_closure(folder / "stage.py")
    code |= set((ROOT / "stages" / "_contract").glob("[!_]*.py"))  # run.py imports the others
    if name == "evaluate":
        code |= scoring_code(inputs.task)
    covered = {
        path.relative_to(ROOT).as_posix()
        for path in (file for dep in deps if dep.startswith("stages/") for file in expand(dep))
        if path.suffix == ".py" and path.name != "__init__.py"
    }
    imported = {path.relative_to(ROOT).as_posix() for path in code if path.name != "__init__.py"}
    assert covered - imported == set(), "these would trigger a run for nothing"
    assert imported - covered - data == set(), "these could change a result unnoticed"
    others = {dep for dep in deps if not dep.startswith("stages/")}
    assert data <= deps
    image = SECTIONS[name].image
    assert others - data == {f"containers/{image}.lock.{kind}" for kind in ("txt", "yaml")}


def scoring_code(task: Path) -> set[Path]:
    """Returns what scores the task, but for what the task's file names with its sha256."""
    config = read_task(ROOT / task)
    module = config["process_results"].partition(".")[0]
    code = import_closure((ROOT / task).parent / f"{module}.py", packages=False)
    return code - {ROOT / path for path in config["metadata"].get("code", {})}


def expand(dep: str) -> list[Path]:
    """Returns the files of a dep."""
    path = ROOT / dep
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


@pytest.mark.parametrize("stage", STAGES, ids=IDS)
def test_outs_and_params_are_the_stage_s(stage: Any) -> None:
    name, cell = name_of(stage), cell_of(stage)
    values = load_cell(ROOT / "params.yaml", name, cell)
    metrics = {path.as_posix() for path in metrics_of(name, values, cell).values()}
    assert paths_of(stage.outs) == {out_of(name, cell).as_posix()} | metrics
    cached = {Path(o.fs_path).relative_to(ROOT).as_posix(): o.use_cache for o in stage.outs}
    assert not any(cached[path] for path in metrics), "metrics are in git"
    params = {
        Path(dep.fs_path).relative_to(ROOT).as_posix(): dep.params
        for dep in stage.deps
        if hasattr(dep, "params")
    }
    expected = {"params.yaml": [name]}
    if "section" in cell:
        expected[params_of(cell).as_posix()] = [f"{name}.{cell['section']}"]
    assert params == expected
    assert stage.cmd.split()[:5] == ["python", "-m", "stages", "run", name]


def test_matrix_asks_every_model_every_task() -> None:
    cells = [tuple(cell_of(stage).values()) for stage in CORE if name_of(stage) == "evaluate"]
    models, tasks = ("base", "sft", "grpo"), SECTIONS["report"].tasks
    assert sorted(cells) == sorted((model, task) for model in models for task in tasks)


def test_every_task_has_problems_and_a_file() -> None:
    asked = {name for name, source in SECTIONS["prompts"].sources.items() if source.num_evaluate}
    assert set(SECTIONS["report"].tasks) == asked
    for task in asked:
        assert (ROOT / "stages" / "evaluate" / "tasks" / f"{task}.yaml").is_file()
        assert SECTIONS["prompts"].sources[task].num_evaluate >= 200


def test_documentation_is_no_dep() -> None:
    ignore = Repo(str(ROOT)).dvcignore
    assert ignore.is_ignored_file(str(ROOT / "stages" / "grpo" / "README.md"))
    assert not ignore.is_ignored_file(str(ROOT / "artifacts" / "filter" / "README.md"))
    assert not ignore.is_ignored_file(str(ROOT / "stages" / "grpo" / "stage.py"))


def test_page_of_the_plots_says_its_charset() -> None:
    """DVC's own page does not, and shows minus signs as three letters."""
    repo = Repo(str(ROOT))
    page = Path(repo.dvc_dir, repo.config["plots"]["html_template"]).read_text(encoding="utf-8")
    assert '<meta charset="utf-8">' in page
    for placeholder in ("{plot_divs}", "{scripts}", "{refresh_tag}"):
        assert placeholder in page


def test_no_parameter_has_a_name_that_the_cache_of_runs_ignores() -> None:
    """DVC leaves `size` and `nfiles` out of a run's key, at any depth.

    A run with another value would be taken for one that is cached, and get its outputs.
    """

    def keys(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, entry in value.items():
                yield key
                yield from keys(entry)

    found = list(keys(YAML(typ="safe", pure=True).load(ROOT / "params.yaml")))
    assert len(found) > 150
    assert {"size", "nfiles"} & set(found) == set()


def test_a_track_runs_each_of_its_sections_under_its_name() -> None:
    for folder in sorted(path.parent for path in (ROOT / "tracks").glob("*/dvc.yaml")):
        sections = read_sections(folder / "params.yaml")
        found: dict[str, set[str]] = {}
        for stage in STAGES:
            if Path(stage.path).parent == folder and "section" in cell_of(stage):
                name = stage.name.partition("@")[0]
                assert name == cell_of(stage)["section"]
                assert cell_of(stage)["track"] == folder.name
                found.setdefault(name_of(stage), set()).add(name)
        assert found == {stage: set(names) for stage, names in sections.items()}


def test_what_a_section_says_differs_from_the_core() -> None:
    """So that a section shows what the step changes, and nothing else."""
    for path in sorted((ROOT / "tracks").glob("*/params.yaml")):
        for stage, found in read_sections(path).items():
            core = asdict(SECTIONS[stage])
            for name, values in found.items():
                same = [key for key, value in values.items() if value == core[key]]
                assert same == [], f"{path}: {stage}.{name}"


def test_figure_of_the_tracks_is_their_graph() -> None:
    """What the page draws are the edges between steps that write data or models."""
    page = (ROOT / "tracks/README.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^  (\w+) --> (\w+)$", page, re.MULTILINE)
    core = {"fetch": "base", "prompts": "core_prompts", "filter": "core_data"}
    names = {
        out: core.get(stage.name, stage.name)
        for stage in STAGES
        if name_of(stage) not in {"evaluate", "report"}
        for out in paths_of(stage.outs)
    }
    edges = set()
    for stage in STAGES:
        if "section" in cell_of(stage) and name_of(stage) not in {"evaluate", "report"}:
            for dep in paths_of(stage.deps):
                made = [names[out] for out in names if Path(dep).is_relative_to(out)]
                edges |= {(name, stage.name) for name in made}
    assert sorted(drawn) == sorted(edges)
