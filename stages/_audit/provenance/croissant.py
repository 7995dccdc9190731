"""Croissant descriptions of the data sets: files with their sha256, and what a row has.

Source: Croissant 1.1 (MLCommons), through mlcroissant's own classes.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import mlcroissant as mlc

from stages._contract.artifacts import read_jsonl, sha256_file

if TYPE_CHECKING:
    from pathlib import Path

# By folder of artifacts/: what it is, and its files.
DATASETS = {
    "prompts": (
        "Problems with verifiable answers: for training, reinforcement and evaluation, kept apart.",
        "*.jsonl evaluate/*.jsonl",
    ),
    "generate": ("All reasoning traces that were sampled, right and wrong.", "*.jsonl"),
    "filter": ("The traces that were kept, and the others with a reason each.", "*.jsonl"),
}
_TYPES: dict[type, Any] = {
    bool: mlc.DataType.BOOL,
    int: mlc.DataType.INTEGER,
    float: mlc.DataType.FLOAT,
    str: mlc.DataType.TEXT,
}


def make_croissant(
    folder: Path, name: str, kind: str, date: str, licence: str | None = None
) -> dict[str, Any]:
    """Returns the description of a data set as JSON-LD, which mlcroissant has validated.

    Paths are relative to the data set's folder, where the file belongs.

    Args:
        folder: where its files are.
        name: what it is called, after "rederive-".
        kind: a key of DATASETS, the stage that made it.
        date: of its making, in ISO format.
        licence: its identifier in SPDX's list; None: nothing is said of it.

    Raises:
        ValueError: a file is missing or corrupted.
    """
    text, patterns = DATASETS[kind]
    paths = [path for pattern in patterns.split() for path in sorted(folder.glob(pattern))]
    if not paths:
        raise ValueError(f"{folder} has no {patterns}: run `dvc repro` or `dvc pull`")
    metadata = mlc.Metadata(
        name=f"rederive-{name}",
        description=text,
        license=licence and f"https://spdx.org/licenses/{licence}",
        url=f"urn:rederive:{name}",
        date_published=datetime.fromisoformat(date),
        version="1.0.0",
        cite_as="See CITATION.cff of Rederive.",
        distribution=[_describe_file(path, folder) for path in paths],
        # What holds no row, as matches.jsonl where nothing leaks, shows no fields.
        record_sets=[_describe_rows(path, folder) for path in paths if path.stat().st_size],
    )
    described: dict[str, Any] = metadata.to_json()
    return described


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix().replace("/", "-")


def _describe_file(path: Path, folder: Path) -> mlc.FileObject:
    return mlc.FileObject(
        id=f"{_name(path, folder)}.jsonl",
        name=f"{_name(path, folder)}.jsonl",
        content_url=path.relative_to(folder).as_posix(),
        content_size=f"{path.stat().st_size} B",
        encoding_formats=["application/jsonlines"],
        sha256=sha256_file(path),
    )


def _describe_rows(path: Path, folder: Path) -> mlc.RecordSet:
    """Returns the fields of a file's rows; messages are lists of roles and contents."""
    name = _name(path, folder)
    (row, *_) = read_jsonl(path)
    fields = [
        mlc.Field(
            id=f"{name}/{column}" + (f"/{key}" if key else ""),
            name=f"{column}/{key}" if key else column,
            data_types=_TYPES.get(type(value), mlc.DataType.TEXT),
            array_shape="-1" if key else None,
            is_array=True if key else None,
            source=mlc.Source(
                file_object=f"{name}.jsonl",
                extract=mlc.Extract(column=column),
                transforms=[mlc.Transform(json_path=f"$[*].{key}")] if key else [],
            ),
        )
        for column, value in sorted(row.items())
        for key in (("role", "content") if isinstance(value, list) else (None,))
    ]
    return mlc.RecordSet(id=name, name=name, fields=fields)
