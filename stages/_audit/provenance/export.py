"""Writes all of the provenance of the recorded run into a folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from securesystemslib.signer import CryptoSigner

from stages._audit.bisect import open_run
from stages._audit.provenance.attestation import make_statement, write_statement
from stages._audit.provenance.crate import write_crate
from stages._audit.provenance.croissant import DATASETS, make_croissant
from stages._audit.provenance.sbom import write_sbom
from stages._audit.seeds import CORE
from stages._contract.artifacts import publish

if TYPE_CHECKING:
    from pathlib import Path


def export(root: Path, out: Path, key: Path | None = None) -> None:
    """Writes attestations, bills of materials, descriptions of data sets, and the crate.

    Cards and licences are stages/_publish's, which finds out what everything was made from.

    Attestations are of the tracks' stages as well; data sets and workflow are the core's.

    Args:
        root: the repository, with the artifacts of the recorded run.
        out: the folder to write, whole or not at all; what is there is replaced.
        key: an unencrypted private key in PEM (ed25519, ECDSA or RSA), or None not to sign.

    Raises:
        ValueError: something that is to be described is missing, or the key cannot be read.
    """
    run = open_run(root, str(root))
    signer = read_signer(key) if key else None
    with publish(out) as folder:
        for name in ("attestations", "sbom", "croissant"):
            (folder / name).mkdir()
        for stage in run.lock:
            ending = "dsse.json" if signer else "json"
            path = folder / "attestations" / f"{run.name_of(stage)}.intoto.{ending}"
            write_statement(make_statement(run, stage), path, signer)
        for lock in sorted((root / "containers").glob("*.lock.txt")):
            write_sbom(lock, folder / "sbom" / f"{lock.name.split('.')[0]}.cdx.json")
        for name in DATASETS:
            date = run.read_manifest(name)["end"]
            described = make_croissant(root / "artifacts" / name, name, name, date)
            text = json.dumps(described, indent=1, default=str)
            (folder / "croissant" / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        write_crate(root, run.keep(CORE), folder)  # the workflow that it describes is the core's


def read_signer(path: Path) -> CryptoSigner:
    """Returns the signer of a private key.

    Raises:
        ValueError: it is no private key in PEM, or an encrypted one.
    """
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_pem_private_key,
    )

    try:
        return CryptoSigner(load_pem_private_key(path.read_bytes(), None))
    except (TypeError, ValueError, FileNotFoundError) as error:
        raise ValueError(
            f"--key {path} is no unencrypted private key in PEM ({error}): make one with `openssl "
            f"genpkey -algorithm ed25519 -out {path}`"
        ) from error
