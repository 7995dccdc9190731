"""All that is published of an artifact: its files, its card, and where it comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages._audit.git import read_at
from stages._contract.places import metrics_of, params_of
from stages._publish.cards import CHECKPOINTS, DATA, Facts, make_card
from stages._publish.files import digest_folder, list_sums, read_file
from stages._publish.licence import choose_licence, list_sources
from stages._publish.record import check_record
from stages._publish.scores import read_scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stages._publish.files import File
    from stages._publish.licence import Source
    from stages._publish.record import Artifact

CARD = "README.md"
FOLDER = "provenance"
SUMS = f"{FOLDER}/SHA256SUMS"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """What is published of an artifact, and the commit that recorded it.

    `recorded` are the artifact's files as the lock has them; `files` are all, where they go on the
    hub; `along` are those of them that were made here from what is in git.
    """

    artifact: Artifact
    commit: str
    recorded: Sequence[File]
    files: Sequence[File]
    along: Sequence[File]
    licence: str
    sources: Sequence[Source]

    @property
    def card(self) -> str:
        """Returns the card's text, or "" for what has none: responses to evaluation problems."""
        found = (file.source for file in self.along if file.path == CARD)
        card = next(found, b"")
        assert isinstance(card, bytes), "the card was made here"
        return card.decode()


def make_bundle(
    root: Path,
    artifact: Artifact,
    commit: str,
    *,
    licence: str | None,
    repository: str,
    address: str,
) -> Bundle:
    """Returns what is to be published of an artifact, after all checks.

    Args:
        root: the repository.
        artifact: which is to be published.
        commit: that recorded it.
        licence: to publish under; None: that of all that it was made from, if it is known.
        repository: where others find the code, or "".
        address: what the artifact can be loaded from afterwards.

    Raises:
        ValueError: the artifact is not what was recorded, the licence is not known, or a file has a
            secret in it.
    """
    recorded = check_record(root, artifact)
    sources = list_sources(root, (*artifact.sources, artifact))
    chosen = choose_licence(sources, licence)
    moved = [f.move(f"{FOLDER}/{f.path}") if f.path == CARD else f for f in recorded]
    contents = dict(_collect(root, artifact))
    if artifact.kind in CHECKPOINTS + DATA:
        facts = Facts(
            root=root,
            artifact=artifact,
            commit=commit,
            files=recorded,
            digest=digest_folder(recorded),
            licence=chosen,
            sources=sources,
            scores=read_scores(root, artifact),
            repository=repository,
            address=address,
        )
        contents[CARD] = make_card(facts)
    if artifact.kind in DATA:
        manifest = contents[f"{FOLDER}/runs/{artifact.run}.json"]
        contents["croissant.json"] = _describe_data(root, artifact, manifest, chosen)
    contents[f"{FOLDER}/record.json"] = _make_record(artifact, commit, recorded, chosen)
    along = [read_file(path, text.encode()) for path, text in sorted(contents.items())]
    along.append(read_file(SUMS, list_sums(sorted([*moved, *along], key=lambda file: file.path))))
    return Bundle(
        artifact=artifact,
        commit=commit,
        recorded=recorded,
        files=[*moved, *along],
        along=along,
        licence=chosen,
        sources=sources,
    )


def _describe_data(root: Path, artifact: Artifact, manifest: str, licence: str) -> str:
    """Returns the data set's metadata in Croissant."""
    from stages._audit.provenance.croissant import (  # noqa: PLC0415 - models need it not
        make_croissant,
    )

    date = json.loads(manifest)["end"]
    name = artifact.name.replace("/", "-")
    described = make_croissant(root / artifact.path, name, artifact.kind, date, licence)
    return json.dumps(described, indent=1, default=str) + "\n"


def _make_record(artifact: Artifact, commit: str, recorded: Sequence[File], licence: str) -> str:
    """Returns what ties the published files to the lock that recorded them."""
    return _dump(
        {
            "artifact": artifact.path,
            "commit": commit,
            "lock": artifact.lock,
            "stage": artifact.target,
            "md5": artifact.md5,
            "sha256": digest_folder(recorded),
            "licence": licence,
        }
    )


def _collect(root: Path, artifact: Artifact) -> Iterator[tuple[str, str]]:
    """Yields the record's own files that are about the artifact, and where they go."""
    lineage = [*artifact.sources, artifact]
    paths = {"params.yaml", *(a.lock for a in lineage), *(f"runs/{a.run}.json" for a in lineage)}
    paths |= {params_of(a.cell).as_posix() for a in lineage if "section" in a.cell}
    paths.add(f"runs/{artifact.run}.steps.jsonl")
    of_stage = metrics_of(artifact.kind, artifact.read_params(root), artifact.cell)
    paths |= {path.as_posix() for path in of_stage.values()}
    scores = read_scores(root, artifact)
    if scores:
        paths.add(scores.file)
    for path in sorted(paths):
        text = read_at(root, "HEAD", path)
        if text is not None:  # not all stages have steps
            yield f"{FOLDER}/{path}", text


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"
