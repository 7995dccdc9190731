"""The file as it is written: the same for the same files, safe, and whole without results."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from stages.__main__ import main
from stages._contract.artifacts import read_jsonl, write_jsonl
from stages._page.page import render_page, write_page
from tests.git import git

if TYPE_CHECKING:
    import pytest

HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)> ' \" \u2028"


def test_same_files_give_the_same_page_which_allows_itself_alone(
    original: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.html", tmp_path / "b.html"
    size = write_page(original, first, "HEAD")
    write_page(original, second, "HEAD")
    page = first.read_text("utf-8")
    assert first.read_bytes() == second.read_bytes()
    assert size == first.stat().st_size < 2_000_000
    assert str(original) not in page
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    policy = policy.replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    scripts = re.findall(r"(?s)<(style|script)>(.*?)</\1>", page)
    assert [kind for kind, _ in scripts] == ["style", "script"]
    for _, text in scripts:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert not re.findall(r'\s(?:style|on\w+)="', page), "the policy would refuse it"
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    assert "% right" in page
    assert "of 13 stages up to date" in page
    assert "Energy is not measured." in page


def test_page_says_what_is_missing_and_how_to_get_it(duplicate: Path) -> None:
    shutil.rmtree(duplicate / "metrics")
    shutil.rmtree(duplicate / "runs")
    for lock in [duplicate / "dvc.lock", *duplicate.glob("tracks/*/dvc.lock")]:
        lock.unlink(missing_ok=True)
    git(duplicate, "commit", "-qam", "nothing is recorded")
    page = render_page(duplicate, git(duplicate, "rev-parse", "HEAD").strip())
    for text in (
        "No results are recorded yet.",
        "metrics holds no results.",
        "No training log is here.",
        "No metrics of prompts or filter are here.",
        "runs/ holds no manifest.",
        "never run; 13 stages",
    ):
        assert text in page
    assert re.search(r"Never run: <code[^>]*>dvc repro</code>", page)
    assert "cannot be checked" in page  # verify's claims


def test_what_models_wrote_is_data_and_never_markup(duplicate: Path) -> None:
    for path in (duplicate / "metrics/report/samples").rglob("*.jsonl"):
        rows = read_jsonl(path)
        rows[0] |= {"responses": [HOSTILE], "question": HOSTILE}
        write_jsonl(path, rows)
    page = render_page(duplicate, git(duplicate, "rev-parse", "HEAD").strip())
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img" not in page
    (data,) = re.findall(
        r'(?s)<script type="application/json" id="samples-data">(.*?)</script>', page
    )
    problem = json.loads(data)["sources"][0]["problems"][0]
    assert problem[2] == HOSTILE
    assert problem[4][0][1] == HOSTILE


def test_command_names_what_is_wrong(
    original: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(original)
    assert main(["page", "--since", "nowhere", "--out", str(tmp_path / "page.html")]) == 1
    assert "git knows no revision 'nowhere'" in capsys.readouterr().err
    assert main(["page", "--out", str(tmp_path / "none" / "page.html")]) == 1
    assert f"there is no folder {tmp_path / 'none'}: create it first" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert main(["page"]) == 1
    assert "has no dvc.yaml: run this at the repository's top" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
