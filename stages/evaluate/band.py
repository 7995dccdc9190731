"""Band checks: a known model must score where it is known to, or the protocol is another one.

A task's file says in `metadata.band` which model that is, by what `fetch.source` says of it, and
between which values one of the results must be. No stage reads it; `python -m stages verify` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def is_model(source: Any, band: Mapping[str, Any]) -> bool:
    """Returns whether `fetch.source` is the band's model, at the band's revision or version."""
    pairs = (("repo", "revision"), ("package", "version"))
    found = [tuple(getattr(source, name, None) for name in pair) for pair in pairs]
    return (band["model"], band["revision"]) in found


def check_band(results: Mapping[str, Any], band: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with a cell's results, or None if they are in the band.

    A value that is undefined is outside. The ends are inside.
    """
    value = results[band["metric"]]
    if value is not None and band["low"] <= value <= band["high"]:
        return None
    return (
        f"{band['metric']} of {band['model']} is {value}, not between {band['low']} and "
        f"{band['high']} ({band['source']}): look for another prompt, template, limit or scorer"
    )
