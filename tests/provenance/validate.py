"""Reads an export with the validators of its formats, in .venv-provenance; prints what they found.

The network is not used. The one thing that roc-validator would fetch, RO-Crate's own JSON-LD
context, comes from the copy that rocrate ships.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mlcroissant
import rdflib.plugins.shared.jsonld.context as jsonld
import requests
import rocrate
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from rocrate_validator import models, services
from rocrate_validator.utils.http import HttpRequester

CONTEXT_URL = "https://w3id.org/ro/crate/1.1/context"
CONTEXT = json.loads((Path(rocrate.__file__).parent / "data/ro-crate.jsonld").read_bytes())


def check_attestations(folder: Path) -> dict[str, Any]:
    """Returns by stage the kinds of digests, and whether the predicate is SLSA's."""
    found = {}
    for path in sorted((folder / "attestations").iterdir()):
        value = json.loads(path.read_bytes())
        statement = Statement.copy_from_pb(json_format.ParseDict(value, statement_pb2.Statement()))
        statement.validate()
        json_format.ParseDict(value["predicate"], provenance_pb2.Provenance())
        subjects = {entry["name"]: sorted(entry["digest"]) for entry in value["subject"]}
        inputs = value["predicate"]["buildDefinition"]["resolvedDependencies"]
        found[path.name.split(".")[0]] = {
            "predicate": value["predicateType"],
            "subjects": subjects,
            "inputs": {entry["name"]: entry["digest"] for entry in inputs},
        }
    return found


def check_sboms(folder: Path) -> dict[str, Any]:
    """Returns the number of packages by environment, and what the schema refuses."""
    found = {}
    for path in sorted((folder / "sbom").iterdir()):
        problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text())
        bom = json.loads(path.read_bytes())
        hashed = [c for c in bom["components"] if c["externalReferences"][0].get("hashes")]
        found[path.name] = {
            "problem": problem and repr(problem),
            "num_packages": len(bom["components"]),
            "num_hashed": len(hashed),
        }
    return found


def check_croissant(folder: Path, artifacts: Path) -> dict[str, Any]:
    """Returns the number of rows that mlcroissant reads from each file, having checked its hash."""
    found: dict[str, Any] = {}
    for path in sorted((folder / "croissant").iterdir()):
        described = artifacts / path.stem / ".croissant.json"  # its paths are relative to itself
        described.write_bytes(path.read_bytes())
        try:
            dataset = mlcroissant.Dataset(jsonld=str(described))
            found[path.stem] = {
                "errors": sorted(dataset.metadata.ctx.issues.errors),
                "rows": {
                    record_set.id: sum(1 for _ in dataset.records(record_set.id))
                    for record_set in dataset.metadata.record_sets
                },
            }
        finally:
            described.unlink()
    return found


def check_crate(folder: Path, severity: str) -> list[str]:
    """Returns what roc-validator finds wrong with the crate, as a Workflow Run Crate."""

    def source_to_json(source: Any, *_: Any, **__: Any) -> Any:
        assert source == CONTEXT_URL, source
        return CONTEXT, None

    def get(_: HttpRequester, url: str, **__: Any) -> requests.Response:
        assert url == CONTEXT_URL, url
        response = requests.Response()
        response.status_code, response._content = 200, json.dumps(CONTEXT).encode()
        response.headers["Content-Type"] = "application/ld+json"
        return response

    jsonld.source_to_json, HttpRequester.get = source_to_json, get
    settings = services.ValidationSettings(
        rocrate_uri=folder,
        profile_identifier="workflow-run-crate-0.5",
        requirement_severity=models.Severity[severity],
    )
    result = services.validate(settings)
    assert len(result.executed_checks) > 50, "the profile's checks, and those it inherits"
    return [f"{i.check.identifier} {i.violatingEntity}: {i.message}" for i in result.get_issues()]


if __name__ == "__main__":
    exported, repository = Path(sys.argv[1]), Path(sys.argv[2])
    answer = {
        "attestations": check_attestations(exported),
        "sboms": check_sboms(exported),
        "croissant": check_croissant(exported, repository / "artifacts"),
        "crate": check_crate(exported, "REQUIRED"),
        "crate_recommended": check_crate(exported, "RECOMMENDED"),
    }
    print(json.dumps(answer))  # noqa: T201 - read by the test
