"""Sizes and times as they are read."""

from __future__ import annotations


def show_bytes(number: float) -> str:
    """Returns a size in the unit that fits."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1000:  # noqa: PLR2004
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def show_duration(seconds: float) -> str:
    """Returns a time in the unit that fits."""
    if seconds < 100:  # noqa: PLR2004
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 100 else f"{minutes / 60:.1f} h"  # noqa: PLR2004
