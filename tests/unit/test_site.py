"""The documentation site has every page once; `nox -s docs` builds it and follows its links."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from docs.site.diagrams import on_page_markdown as draw
from docs.site.generated import list_metrics, list_params, show_help

ROOT = Path(__file__).parents[2]


def test_every_page_is_on_the_site_once() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    )
    # The tables of results are on the README, and on the tracks' page.
    tables = {"metrics/report/results.md", "metrics/results/report/results.md"}
    pages = set(listed.stdout.split()) - tables
    entries = re.findall(
        r"(?m)^ +- (?:[^:\n]+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8")
    )
    found = [path for entry in entries for path in sorted(ROOT.glob(entry))]
    assert len(found) == len(set(found))
    assert {path.relative_to(ROOT).as_posix() for path in found} == pages


def test_key_has_its_value_role_and_comment() -> None:
    text = (
        "grpo:                     # learns by reward\n"
        "  # of nothing\n"
        "  beta: 0.001             # [S] weight of a|b; <0: none\n"
        "  rewards: {a: 1.0}       # [N]\n"
        "  args:                   # of rewards\n"
        "    max_len: 1000         # [N] tokens\n"
        "  seed: 0\n"
    )
    assert list_params(text).splitlines() == [
        "",
        "## grpo",
        "",
        "Learns by reward.",
        "",
        "| key | value | role | what |",
        "|---|---|---|---|",
        "| `beta`{ #grpo.beta } | `0.001` | scientific | weight of a\\|b; &lt;0: none |",
        "| `rewards`{ #grpo.rewards } | `{a: 1.0}` | nuisance |  |",
        "| `args`{ #grpo.args } |  |  | of rewards |",
        "| `args.max_len`{ #grpo.args.max_len } | `1000` | nuisance | tokens |",
        "| `seed`{ #grpo.seed } | `0` |  |  |",
    ]


def test_every_section_of_the_parameters_is_listed() -> None:
    page = list_params((ROOT / "params.yaml").read_text("utf-8"))
    stages = {path.parent.name for path in (ROOT / "stages").glob("[a-z]*/params.py")}
    assert set(re.findall(r"(?m)^## (.*)", page)) == stages
    assert "| `engine.max_num_seqs`{ #generate.engine.max_num_seqs } | `128` | fixed |" in page


def test_metrics_are_the_recorded_ones() -> None:
    recorded = json.loads((ROOT / "metrics/grpo.json").read_text("utf-8"))
    page = list_metrics()
    assert f"| `num_completions` | {recorded['num_completions']} |" in page
    assert f"| `final_reward` | {recorded['final_reward']:.6g} |" in page
    assert "| `arithmetic.accuracy` |" in page
    listed = subprocess.run(
        ["git", "ls-files", "metrics/*.json"], cwd=ROOT, text=True, capture_output=True, check=True
    )
    files = {path for path in listed.stdout.split() if "/seeds/" not in path}
    assert set(re.findall(r"(?m)^## (.*)", page)) == files


def test_site_is_made_again_when_one_of_its_pages_changes() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    (watched,) = re.findall(r"(?m)^watch: \[(.*)\]$", text)
    pages = re.findall(r"(?m)^ +- (?:[^:\n]+: )?(\S+\.md)$", text)
    assert {page.split("/")[0] for page in pages} <= set(watched.split(", "))


def test_help_is_what_the_command_prints() -> None:
    assert "usage: python -m stages bisect" in show_help("bisect")


@pytest.mark.skipif(not shutil.which("dot"), reason="install graphviz (.ci/install-packages)")
def test_flowchart_is_drawn() -> None:
    page = draw(
        'before\n\n```mermaid\nflowchart LR\n  a["one, two"] --> b\n  b --> c\n```\n\nafter\n'
    )
    assert page.startswith(
        'before\n\n<figure class="graph" role="img" aria-label="A graph of 3 nodes'
    )
    assert page.count('class="node"') == 3
    assert page.count('class="edge"') == 2
    assert ">one, two</text>" in page
    assert page.endswith("</figure>\n\nafter\n")
