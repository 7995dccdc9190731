"""A clone without artifacts, as the audit's tests have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages._page.graph import Graph, read_graph
from tests.unit.audit.conftest import repo

__all__ = ["repo"]


@pytest.fixture(scope="session")
def recorded(original: Path) -> Graph:
    """Returns the clone's graphs, as they are recorded."""
    return read_graph(original, "HEAD")
