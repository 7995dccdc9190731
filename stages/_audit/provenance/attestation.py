"""An in-toto statement with SLSA provenance for each stage, and its signature if a key is given.

Source: in-toto attestation v1 (statement, digest set), SLSA build provenance v1. A folder's digest
is `dirHash`, Go's Hash1, which the manifests' digests of folders are.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securesystemslib.signer import Signer

    from stages._audit.bisect import Run

PREDICATE = "https://slsa.dev/provenance/v1"
PAYLOAD = "application/vnd.in-toto+json"


def make_statement(run: Run, stage: str) -> Statement:
    """Returns the statement on a stage's outputs: what they are, and what they were made from.

    Raises:
        ValueError: the run has no manifest of the stage.
    """
    manifest, entry = run.read_manifest(stage), run.lock[stage]
    if not manifest or manifest["commit"] is None:
        raise ValueError(
            f"runs/ has no manifest of {stage} that names a commit: commit the code, and run `dvc "
            f"repro --force {stage}`"
        )
    subjects = [
        *_describe(manifest["outputs"], entry["outs"]),
        *_describe_files(run, entry["outs"], manifest["outputs"]),
    ]
    predicate = _make_predicate(run, stage, manifest)
    statement = Statement(subjects, PREDICATE, predicate)
    statement.validate()
    return statement


def _make_predicate(run: Run, stage: str, manifest: dict[str, Any]) -> dict[str, Any]:
    entry = run.lock[stage]
    dependencies = [
        ResourceDescriptor("source", digest={"gitCommit": manifest["commit"]}).pb,
        *_describe(manifest["inputs"], entry["deps"]),
        *_describe_files(run, entry["deps"], manifest["inputs"]),
    ]
    predicate = {
        "buildDefinition": {
            "buildType": "urn:rederive:dvc-stage:1",
            "externalParameters": {"command": entry["cmd"], "params": entry.get("params", {})},
            "internalParameters": {
                "machine": manifest["machine"],
                "packages": manifest["packages"],
                "python": manifest["python"],
                "facts": manifest["facts"],
            },
            "resolvedDependencies": [
                json_format.MessageToDict(dependency) for dependency in dependencies
            ],
        },
        "runDetails": {
            "builder": {"id": "urn:rederive:python-m-stages"},
            "metadata": {
                "invocationId": f"{stage}@{manifest['start']}",
                "startedOn": manifest["start"],
                "finishedOn": manifest["end"],
            },
        },
    }
    json_format.ParseDict(predicate, provenance_pb2.Provenance())  # refuses what SLSA has not
    return predicate


def _describe(digests: dict[str, str], entries: list[dict[str, Any]]) -> Iterator[Any]:
    """Yields descriptors of paths by the manifest's sha256, which of a folder is a dirHash."""
    folders = {entry["path"] for entry in entries if entry["md5"].endswith(".dir")}
    for path, digest in digests.items():
        kind = "dirHash" if path in folders else "sha256"
        yield ResourceDescriptor(path, digest={kind: digest}).pb


def _describe_files(
    run: Run, entries: list[dict[str, Any]], described: dict[str, str]
) -> Iterator[Any]:
    """Yields descriptors of the files in git that the manifest has not hashed.

    Folders of code are part of the commit.
    """
    for entry in entries:
        text = run.read(entry["path"]) if entry["path"] not in described else None
        if text is not None and not entry["md5"].endswith(".dir"):
            digest = hashlib.sha256(text.encode()).hexdigest()
            yield ResourceDescriptor(entry["path"], digest={"sha256": digest}).pb


def write_statement(statement: Statement, path: Path, signer: Signer | None) -> None:
    """Writes the statement as JSON or, with a signer, a DSSE envelope that holds it."""
    value = json_format.MessageToDict(statement.pb)
    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
    if signer is None:
        path.write_text(text, encoding="utf-8")
        return
    envelope = Envelope(text.encode(), PAYLOAD, {})
    envelope.sign(signer)
    path.write_text(json.dumps(envelope.to_dict(), indent=1, sort_keys=True) + "\n", "utf-8")
