"""One Workflow Run RO-Crate of the whole: the workflow, its run, and what describes both.

Source: Workflow Run Crate 0.5, on RO-Crate 1.1, through rocrate. Artifacts are not in the crate:
attestations name them by digest.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from rocrate.model.computerlanguage import ComputerLanguage
from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate
from ruamel.yaml import YAML

from stages._contract.params import stage_names

if TYPE_CHECKING:
    from pathlib import Path

    from stages._audit.bisect import Run

PROFILES = (
    ("https://w3id.org/ro/wfrun/process/0.5", "Process Run Crate", "0.5"),
    ("https://w3id.org/ro/wfrun/workflow/0.5", "Workflow Run Crate", "0.5"),
    ("https://w3id.org/workflowhub/workflow-ro-crate/1.0", "Workflow RO-Crate", "1.0"),
)
_WRITTEN = ("dvc.lock", "metrics/*.json", "metrics/evaluate/*.json", "metrics/report/results.md")
_FORMATS = {".json": "application/json", ".yaml": "application/yaml", ".md": "text/markdown"}
_RECORDED = ("runs/*.json", "README.md", "REPRODUCE.md")


def write_crate(root: Path, run: Run, exported: Path) -> None:
    """Writes ro-crate-metadata.json and the files it describes into `exported`.

    Args:
        root: the repository.
        run: what it records.
        exported: the folder in which the other exports are already.
    """
    others = sorted(path for path in exported.rglob("*") if path.is_file())
    crate = ROCrate(gen_preview=False, version="1.1")
    sections = YAML(typ="safe", pure=True).load(root / "params.yaml")
    recipe = sections["report"]["recipe"]
    images = sorted({section["image"] for section in sections.values() if "image" in section})
    read = ("params.yaml", *(f"containers/{image}.lock.txt" for image in images))
    crate.name = f"Rederive: the recipe {recipe}, after DeepSeek-R1's"
    crate.description = "Workflow, parameters, results and provenance of one run of the recipe."
    crate.license = _add_license(crate)
    crate.root_dataset["conformsTo"] = [_add_profile(crate, *profile) for profile in PROFILES]
    workflow = _add_workflow(crate, root)
    workflow["version"] = run.read_manifest("report")["commit"]
    files = {
        kind: [
            _add(crate, root, path) for pattern in patterns for path in sorted(root.glob(pattern))
        ]
        for kind, patterns in (("read", read), ("written", _WRITTEN), ("recorded", _RECORDED))
    }
    for path in others:
        _add(crate, exported, path)
    manifests = [run.read_manifest(stage) for stage in run.lock]
    times = {key: sorted(manifest[key] for manifest in manifests) for key in ("start", "end")}
    action = ContextEntity(
        crate,
        "#run",
        properties={
            "@type": "CreateAction",
            "name": "dvc repro",
            "description": f"All of {', '.join(stage_names())}.",
            "startTime": times["start"][0],
            "endTime": times["end"][-1],
            "actionStatus": "http://schema.org/CompletedActionStatus",
        },
    )
    crate.add(action)
    authors = crate.add(
        ContextEntity(crate, "#authors", properties={"@type": "Organization", "name": "Rederive"})
    )
    action["agent"] = crate.root_dataset["author"] = crate.root_dataset["publisher"] = authors
    action["instrument"] = workflow
    action["object"], action["result"] = files["read"], files["written"]
    crate.root_dataset["mentions"] = action
    crate.get("README.md")["about"] = crate.root_dataset
    crate.datePublished = datetime.fromisoformat(times["end"][-1])
    crate.write(exported)  # what is there already stays as it is


def _add(crate: ROCrate, root: Path, path: Path) -> Any:
    name = path.relative_to(root).as_posix()
    properties = {"name": name, "encodingFormat": _FORMATS.get(path.suffix, "text/plain")}
    return crate.add_file(path, name, properties=properties)


def _add_workflow(crate: ROCrate, root: Path) -> Any:
    """Returns dvc.yaml as the crate's main entity."""
    language = crate.add(
        ComputerLanguage(
            crate,
            "#dvc",
            properties={
                "name": "DVC",
                "alternateName": "Data Version Control",
                "identifier": {"@id": "https://doc.dvc.org"},
                "url": {"@id": "https://dvc.org"},
            },
        )
    )
    return crate.add_workflow(
        root / "dvc.yaml",
        "dvc.yaml",
        main=True,
        lang=language,
        properties={
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
            "name": "The graph",
            "description": "Stages, their inputs and their outputs.",
            "encodingFormat": _FORMATS[".yaml"],
        },
    )


def _add_license(crate: ROCrate) -> Any:
    return crate.add(
        ContextEntity(
            crate,
            "https://spdx.org/licenses/Apache-2.0",
            properties={
                "@type": "CreativeWork",
                "name": "Apache License 2.0",
                "description": "Permissive, with a grant of patent rights.",
            },
        )
    )


def _add_profile(crate: ROCrate, identifier: str, name: str, version: str) -> Any:
    return crate.add(
        ContextEntity(
            crate,
            identifier,
            properties={"@type": "CreativeWork", "name": name, "version": version},
        )
    )
