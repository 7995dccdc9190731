"""What an export says of a recipe, without a run of it: artifacts are stand-ins with one row."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from stages._contract.artifacts import write_jsonl
from tests.repository import change

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-provenance/bin/python"
READ = ("dvc.yaml", "dvc.lock", "params.yaml", "runs", "metrics", "stages")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Returns the record under another recipe's name."""
    for name in (*READ, "README.md", "REPRODUCE.md"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    change(tmp_path, {"report.recipe": "another", "grpo.image": "train"})
    (tmp_path / "containers").mkdir()
    for name in ("cpu", "train", "docs"):  # of one package: to describe all takes minutes
        lock = f"idna==3.11 \\\n    --hash=sha256:{'0' * 64}\n"
        (tmp_path / f"containers/{name}.lock.txt").write_text(lock, encoding="utf-8")
    for name in ("prompts", "generate", "filter"):
        (tmp_path / "artifacts" / name).mkdir(parents=True)
        write_jsonl(tmp_path / "artifacts" / name / "train.jsonl", [{"id": "a"}])
    return tmp_path


def test_export_states_what_the_record_says_and_nothing_of_the_default(repo: Path) -> None:
    """Cards and licences are published from the record: stages/_publish."""
    out = repo / "provenance"
    done = subprocess.run(
        [PYTHON, "-m", "stages", "provenance", str(out)],
        cwd=repo,
        env=os.environ | {"PYTHONPATH": str(repo)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"wrote {out}\n"), done.stderr
    assert {path.name for path in out.iterdir() if path.is_dir()} >= {"attestations", "croissant"}
    assert not (out / "models").exists()
    for path in (out / "croissant").iterdir():
        assert "license" not in json.loads(path.read_text(encoding="utf-8"))
    graph = json.loads((out / "ro-crate-metadata.json").read_text(encoding="utf-8"))["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    assert entities["./"]["name"] == "Rederive: the recipe another, after DeepSeek-R1's"
    read = {entity["@id"] for entity in entities["#run"]["object"]}
    assert read == {"params.yaml", "containers/cpu.lock.txt", "containers/train.lock.txt"}
