"""A repository with the real contract and one small stage, `demo`, whose body a test writes."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARAMS = """
from dataclasses import dataclass
from pathlib import Path

@dataclass(frozen=True, kw_only=True, slots=True)
class DemoParams:
    image: str
    size: int

@dataclass(frozen=True, kw_only=True, slots=True)
class DemoInputs:
    data: Path

def inputs(params, cell):
    return DemoInputs(data=Path("data.txt"))
"""
# Where the launcher finds the recipe's name; the stage itself is never run.
REPORT = """
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True, slots=True)
class ReportParams:
    recipe: str
"""
VALUES = """\
demo:
  image: cpu
  size: 3
report:
  recipe: tiny
"""
GRAPH = """
stages:
  demo:
    cmd: python -m stages run demo
    deps: [stages/_contract, stages/demo, data.txt]
    params: [demo]
    outs: [artifacts/demo]
    metrics: [metrics/demo.json: {cache: false}]
"""


def make_demo(repo: Path) -> None:
    """Makes the folder such a repository, still without demo's stage.py."""
    for stage in ("demo", "report"):
        (repo / "stages" / stage).mkdir(parents=True)
    for name in ("__init__.py", "__main__.py"):
        shutil.copy(ROOT / "stages" / name, repo / "stages")
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("_contract", "_launch", "_live"):
        shutil.copytree(ROOT / "stages" / name, repo / "stages" / name, ignore=skip)
    (repo / "stages" / "demo" / "params.py").write_text(PARAMS)
    (repo / "stages" / "report" / "params.py").write_text(REPORT)
    (repo / "params.yaml").write_text(VALUES)
    (repo / "dvc.yaml").write_text(GRAPH)
    (repo / "data.txt").write_text("x")


def write_stage(repo: Path, body: str) -> None:
    """Writes demo's stage.py with this body of `run`."""
    header = "import os, time\ndef run(params, inputs, out, work):\n"
    code = header + textwrap.indent(textwrap.dedent(body), "    ")
    (repo / "stages" / "demo" / "stage.py").write_text(code)
