"""Brings the repository's pages to the site under their own paths, and the files they point to.

mkdocs wants all pages in one folder; here they lie beside what they are about, where a reader of
the repository looks for them. Each is a page of the site once, and no text is copied. A link to a
file that is no page leads to a page that shows it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File, InclusionLevel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)((?:#[^)]*)?)\)")
# What says how a test knows that a block holds; see tests/docs/blocks.py.
MARK = re.compile(r"(?m)^ *<!-- commands: .* -->\n")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".j2": "sh", ".json": "json", ".in": "text"}


def on_config(config: MkDocsConfig) -> None:
    """Replaces patterns of the navigation by the files that they match, in order."""
    config.nav = _expand(config.nav)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Adds the pages of the navigation, and one for each file that they point to."""
    pages = list(_pages(config.nav))
    for page in pages:
        _add(files, config, page, page, (ROOT / page).read_text("utf-8"))
    for target in sorted({target for page in pages for target in _sources(page)}):
        text = (ROOT / target).read_text("utf-8")
        language = LANGUAGES.get(PurePosixPath(target).suffix, "sh")
        shown = (
            f"---\nsearch: {{exclude: true}}\n---\n\n# `{target}`\n\n~~~~{language}\n{text}~~~~\n"
        )
        _add(files, config, f"{target}.md", f"{target}.md", shown)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Returns the page without marks for tests, and with links that lead to what the site has."""
    folder = posixpath.dirname(page.file.src_uri)

    def point(link: re.Match[str]) -> str:
        path, anchor = link.groups()
        target = posixpath.normpath(posixpath.join(folder, path))
        if (ROOT / target).is_dir():
            index = f"{path.rstrip('/')}/README.md"
            return f"]({index}{anchor})" if (ROOT / target / "README.md").is_file() else "]()"
        return link[0] if path.endswith(".md") else f"]({path}.md{anchor})"

    # A folder without a page of its own is a name and no link.
    return re.sub(r"\[([^\]]*)\]\(\)", r"\1", LINK.sub(point, MARK.sub("", markdown)))


def _expand(nav: Any) -> Any:
    if isinstance(nav, dict):
        return {title: _expand(entry) for title, entry in nav.items()}
    if isinstance(nav, list):
        return [found for entry in nav for found in _as_list(_expand(entry))]
    if "*" in nav:
        return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(nav))
    return nav


def _as_list(entry: Any) -> list[Any]:
    return entry if isinstance(entry, list) else [entry]


def _pages(nav: Any) -> Iterator[str]:
    """Yields the paths of the navigation's pages."""
    if isinstance(nav, str):
        yield nav
        return
    for entry in nav.values() if isinstance(nav, dict) else nav:
        yield from _pages(entry)


def _sources(page: str) -> Iterator[str]:
    """Yields the files that the page points to and that are no pages."""
    for path, _ in LINK.findall((ROOT / page).read_text("utf-8")):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if (ROOT / target).is_file() and not path.endswith(".md"):
            yield target


def _add(files: Files, config: MkDocsConfig, source: str, place: str, content: str) -> None:
    file = File.generated(config, source, content=content, inclusion=InclusionLevel.NOT_IN_NAV)
    # docs/ is the repository's word for the site itself.
    place = place.removeprefix("docs/")
    page = PurePosixPath(place)
    name = "index" if page.name == "README.md" else page.stem
    file.dest_uri = (page.parent / f"{name}.html").as_posix()
    files.append(file)
