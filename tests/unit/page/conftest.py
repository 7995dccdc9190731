"""What is recorded in this repository, as the page reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages._page.graph import Graph, read_graph


@pytest.fixture(scope="session")
def recorded(original: Path) -> Graph:
    """Returns the clone's graphs, as they are recorded."""
    return read_graph(original, "HEAD")
