"""The page of this repository, with traces that try to be markup, in a real Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from stages._contract.artifacts import read_jsonl, write_jsonl
from stages._page.page import write_page
from tests.filtered import write_filtered

HOSTILE = '<img src=x onerror="document.title=1"></script><script>document.title=2</script>'


@pytest.fixture(scope="session")
def url(original: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Returns the address of the page of a clone, with a few traces and hostile samples."""
    repo = tmp_path_factory.mktemp("page") / "repo"
    shutil.copytree(original, repo)
    for path in (repo / "metrics/report/samples").rglob("*.jsonl"):
        rows = read_jsonl(path)
        rows[0]["responses"] = [HOSTILE]
        rows[1]["responses"] = [f"{HOSTILE} {'long ' * 300}"]
        write_jsonl(path, rows)
    rejected = {"id": "p1", "sample": 1, "reason": "wrong_answer", "response": "three"}
    write_filtered(repo, 0, [rejected])
    write_page(repo, repo / "report.html", "HEAD")
    return (repo / "report.html").as_uri()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Returns the system's Chromium; Playwright's own builds are not needed."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no Chromium: .ci/install-packages installs it on Debian")
    with sync_playwright() as playwright:
        # Its own sandbox refuses to run as root, as CI does; it opens nothing but our page.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, url: str) -> Iterator[Page]:
    """Returns the opened page, in a wide window and in light colours.

    Afterwards nothing may have been written to the console or asked of any network.
    """
    context = chromium.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    page = context.new_page()
    heard: list[str] = []
    page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url))
    page.goto(url)
    yield page
    assert [line for line in heard if not line.startswith("data:")] == [url]
    context.close()
