"""The recipe's provenance, exported and then read by the validators of its formats."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.repository import call, read

pytestmark = pytest.mark.pipeline

ROOT = Path(__file__).parents[2]
PYTHON = str(ROOT / ".venv-provenance/bin/python")


@pytest.fixture(scope="module")
def exported(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the export of the tiny recipe."""
    out = tmp_path_factory.mktemp("provenance") / "provenance"
    done = call(recipe, PYTHON, "-m", "stages", "provenance", str(out))
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def validated(recipe: Path, exported: Path) -> dict[str, Any]:
    """Returns what the validators found in it."""
    return validate(exported, recipe)


def validate(exported: Path, repo: Path) -> dict[str, Any]:
    command = [PYTHON, "-m", "tests.provenance.validate", str(exported), str(repo)]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_each_stage_has_an_attestation(recipe: Path, validated: dict[str, Any]) -> None:
    found = validated["attestations"]
    assert set(found) == {path.stem for path in (recipe / "runs").glob("*.json")}
    assert {entry["predicate"] for entry in found.values()} == {"https://slsa.dev/provenance/v1"}
    grpo = found["grpo"]
    assert grpo["subjects"] == {"artifacts/grpo": ["dirHash"], "metrics/grpo.json": ["sha256"]}
    sft = read(recipe, "runs/sft.json")
    assert grpo["inputs"]["artifacts/sft"] == {"dirHash": sft["outputs"]["artifacts/sft"]}
    assert set(grpo["inputs"]) >= {"source", "containers/cpu.lock.txt", "stages/sft/training.py"}
    assert set(grpo["inputs"]["artifacts/prompts/rl.jsonl"]) == {"sha256"}


def test_bill_of_materials_has_every_locked_package(validated: dict[str, Any]) -> None:
    lock = (ROOT / "containers/cpu.lock.txt").read_text(encoding="utf-8")
    num = sum("==" in line for line in lock.splitlines())
    expected = {"problem": None, "num_packages": num, "num_hashed": num}
    assert validated["sboms"] == {"cpu.cdx.json": expected}


def test_data_sets_are_read_row_by_row(recipe: Path, validated: dict[str, Any]) -> None:
    found = validated["croissant"]
    assert {name: entry["errors"] for name, entry in found.items()} == {
        "filter": [],
        "generate": [],
        "prompts": [],
    }
    assert found["prompts"]["rows"]["train"] == 40
    assert found["prompts"]["rows"]["evaluate-arithmetic"] == 40
    assert sum(found["generate"]["rows"].values()) == 160
    assert found["filter"]["rows"]["train"] == read(recipe, "metrics/filter.json")["num_kept"]


def test_crate_is_a_workflow_run_crate(validated: dict[str, Any]) -> None:
    assert validated["crate"] == []
    # Recommended, and not there: the workflow and its authors have no address of their own yet, and
    # no inputs and outputs are listed as Bioschemas wants them.
    found = {issue.split(": ", 1)[1] for issue in validated["crate_recommended"]}
    assert {issue.partition(" ComputationalWorkflow profile")[0] for issue in found} == {
        "The Main Workflow SHOULD comply with Bioschemas",
        "The Application SHOULD have a url",
        "The SoftwareApplication id SHOULD be an absolute URI",
        "The organization SHOULD have a URL.",
    }


def test_validators_refuse_what_is_wrong(recipe: Path, exported: Path, tmp_path: Path) -> None:
    """Without its main entity, a crate is no workflow run."""
    broken = tmp_path / "broken"
    shutil.copytree(exported, broken)
    path = broken / "ro-crate-metadata.json"
    crate = json.loads(path.read_text())
    root = next(entity for entity in crate["@graph"] if entity["@id"] == "./")
    del root["mainEntity"]
    path.write_text(json.dumps(crate))
    assert validate(broken, recipe)["crate"] != []


def test_signature_holds_for_the_statement_alone(recipe: Path, tmp_path: Path) -> None:
    """Signed with a user's key; checked with openssl on what DSSE says is signed."""
    key, public, out = tmp_path / "key.pem", tmp_path / "public.pem", tmp_path / "provenance"
    openssl = ["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(public)]
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True)
    subprocess.run(openssl, check=True)
    done = call(recipe, PYTHON, "-m", "stages", "provenance", str(out), "--key", str(key))
    assert done.returncode == 0, done.stderr
    envelope = json.loads((out / "attestations/sft.intoto.dsse.json").read_text())
    payload = base64.b64decode(envelope["payload"])
    assert json.loads(payload)["subject"][0]["name"] == "artifacts/sft"
    kind = envelope["payloadType"].encode()
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    for content, holds in ((payload, True), (payload.replace(b"sft", b"SFT"), False)):
        signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(content), content)
        (tmp_path / "signed").write_bytes(signed)
        verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-rawin"]
        files = ["-in", str(tmp_path / "signed"), "-sigfile", str(tmp_path / "signature")]
        done = subprocess.run([*verify, *files], capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == holds, done.stderr


@pytest.mark.parametrize("content", [None, "not a key"])
def test_key_that_is_none_is_one_line(recipe: Path, tmp_path: Path, content: str | None) -> None:
    key = tmp_path / "key.pem"
    if content:
        key.write_text(content)
    out = tmp_path / "provenance"
    done = call(recipe, PYTHON, "-m", "stages", "provenance", str(out), "--key", str(key))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"rederive: --key {key} is no unencrypted private key")
    assert not out.exists()
