"""All that is published of an artifact: its files, its card, and where it comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    moved = [f.move(f"{FOLDER}/{f.path}") if f.path == CARD else f for f in recorded]
    contents = dict(_collect(facts)) | dict(_describe(facts))
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


def _describe(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yields where it goes, and what is made here of the record: card, data set, digests."""
    artifact = facts.artifact
    if artifact.kind in CHECKPOINTS + DATA:
        yield CARD, make_card(facts)
    if artifact.kind in DATA:
        from stages._audit.provenance.croissant import (  # noqa: PLC0415 - models need it not
            make_croissant,
        )

        folder, date = facts.root / artifact.path, facts.read_run(artifact)["end"]
        name = artifact.name.replace("/", "-")
        described = make_croissant(folder, name, artifact.kind, date, facts.licence)
        yield "croissant.json", json.dumps(described, indent=1, default=str) + "\n"
    record = {
        "artifact": artifact.path,
        "commit": facts.commit,
        "lock": artifact.lock,
        "stage": artifact.target,
        "md5": artifact.md5,
        "sha256": facts.digest,
        "licence": facts.licence,
    }
    yield f"{FOLDER}/record.json", json.dumps(record, indent=1, sort_keys=True) + "\n"


def _collect(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yields where they go, and the record's own files that are about the artifact."""
    root, artifact = facts.root, facts.artifact
    lineage = [*artifact.sources, artifact]
    paths = {"params.yaml", *(a.lock for a in lineage), *(f"runs/{a.run}.json" for a in lineage)}
    paths |= {params_of(a.cell).as_posix() for a in lineage if "section" in a.cell}
    paths.add(f"runs/{artifact.run}.steps.jsonl")
    of_stage = metrics_of(artifact.kind, artifact.read_params(root), artifact.cell)
    paths |= {path.as_posix() for path in of_stage.values()}
    if facts.scores:
        paths.add(facts.scores.file)
    for path in sorted(paths):
        text = read_at(root, "HEAD", path)
        if text is not None:  # not all stages have steps
            yield f"{FOLDER}/{path}", text
