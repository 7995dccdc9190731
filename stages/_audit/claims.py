"""The ledger of claims: each number of the pages is measured, and computed again, or given.

docs/claims.yaml has the texts. A claim's text holds `{value:format}`s, and stands in its page with
what they are now. Formats are Python's, and `p` for percent without its sign: `{x:+.1p}` shows
0.092 as +9.2.
What is left of a page without claims, given texts, code and links must hold no number.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from stages._audit.published import flatten, name_run, read_json
from stages._audit.seeds import ALL_TRACKS, CORE, Graph, read_seeds
from stages._contract.artifacts import sha256_file
from stages._contract.places import TRACKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

LEDGER = "docs/claims.yaml"
_NUMBER = r"[-+]?\d(?:[\d,]*\d)?(?:\.\d+)?"
_VALUE = rf"(?:{_NUMBER}|[0-9a-f]{{10}})"  # or a commit
# Code, links' targets, headings' and lists' own numbers, and numbers that are part of a name.
_NO_CLAIM = re.compile(r"(?s)```.*?```|`[^`\n]*`|\]\([^)]*\)|(?m:^#+ \d+\. |^\s*\d+\. )")


class _Formatter(string.Formatter):
    """Looks dotted names up as they are, and knows the format `p`."""

    def get_field(
        self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, str]:
        del args
        if field_name not in kwargs:
            raise ValueError(f"{LEDGER}: {field_name!r} is no measured value")
        return kwargs[field_name], field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec.endswith("p"):
            return format(100 * value, f"{format_spec[:-1]}f")
        return format(value, format_spec)


@dataclass(frozen=True, slots=True)
class Entry:
    """A claim of the ledger: its template, and what the number rests on."""

    id: str
    page: str
    text: str
    rests_on: str

    def render(self, values: Mapping[str, Any]) -> str:
        """Returns the text with the values, by the names that `measure` gives them.

        Raises:
            ValueError: it uses a value that is not measured.
        """
        return _Formatter().vformat(self.text, (), values)

    def pattern(self) -> str:
        """Returns the pattern of the text with whatever values, wherever its lines are broken."""
        parts = ""
        for literal, name, *_ in string.Formatter().parse(self.text):
            parts += re.escape(literal) + ("" if name is None else _VALUE)
        return re.sub(r"(?:\\ )+", r"\\s+", parts)


def read_ledger(root: Path) -> tuple[list[Entry], dict[str, list[str]]]:
    """Returns the claims, and by page the texts whose numbers are given and not measured."""
    ledger = YAML(typ="safe", pure=True).load(root / LEDGER)
    return [Entry(**claim) for claim in ledger["claims"]], ledger["given"]


def measure(root: Path) -> dict[str, Any]:
    """Returns by dotted name all values that a claim may use, from metrics and manifests.

    Accuracies and differences are in [-1, 1]; `run.minutes` is the sum over the core's stages,
    `run.gib` the largest one's memory in GiB; `tracks.*` are those of the tracks. `seeds.*` are
    over the recorded seeds, the committed run's too.
    """
    values: dict[str, Any] = {}
    for graph, prefix in ((CORE, ""), (ALL_TRACKS, "tracks.")):
        if (root / graph.metrics / "paired.json").is_file():
            values |= _measure_table(root / graph.metrics, prefix)
            values |= _measure_seeds(root, graph, prefix)
    for track in sorted((root / TRACKS).glob("*/params.yaml")):
        for path in sorted((root / "metrics" / track.parent.name).glob("*.json")):
            values |= flatten(f"tracks.{track.parent.name}.{path.stem}", read_json(path))
    for name in ("fetch", "prompts", "generate", "filter", "sft", "grpo"):
        values |= flatten(name, read_json(root / "metrics" / f"{name}.json"))
    runs = {path.stem: read_json(path) for path in (root / "runs").glob("*.json")}
    core = _list_core(root)
    for part, names in (("run", core & runs.keys()), ("tracks", runs.keys() - core)):
        values[f"{part}.minutes"] = sum(runs[name]["duration_s"] for name in names) / 60
        sizes = [runs[name]["peak_memory_bytes"] for name in names]
        values[f"{part}.gib"] = max(sizes, default=0) / 2**30
    for stage, run in runs.items():
        values |= {f"run.{stage}.s": run["duration_s"], f"run.{stage}.commit": run["commit"][:10]}
        values[f"run.{stage}.gib"] = run["peak_memory_bytes"] / 2**30
    for lock in (root / "containers").glob("*.lock.txt"):
        text = lock.read_text(encoding="utf-8")
        values[f"packages.{lock.name.partition('.')[0]}"] = len(re.findall(r"(?m)^\S+==", text))
    return values


def _list_core(root: Path) -> set[str]:
    """Returns the names of the core graph's runs."""
    lock = YAML(typ="safe", pure=True).load(root / "dvc.lock")["stages"]
    return {name_run(stage) for stage in lock}


def _measure_table(folder: Path, prefix: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for path in sorted(folder.glob("evaluate/*.json")):
        for task, cell in read_json(path).items():
            values |= {f"{prefix}{task}.{path.stem}.{key}": value for key, value in cell.items()}
    for task, pairs in read_json(folder / "paired.json").items():
        for pair, found in pairs.items():
            values |= {f"{prefix}{task}.{pair}.{key}": value for key, value in found.items()}
    return values


def _measure_seeds(root: Path, graph: Graph, prefix: str) -> dict[str, Any]:
    runs = read_seeds(root, graph)
    seeds = ", ".join(str(run["seed"]) for run in runs)
    values: dict[str, Any] = {f"{prefix}seeds.num": len(runs), f"{prefix}seeds.all": seeds}
    pairs = read_json(root / graph.metrics / "paired.json")
    for task, by_model in runs[0]["accuracy"].items():
        found = {model: [run["accuracy"][task][model] for run in runs] for model in by_model}
        for pair in pairs[task]:
            second, _, first = pair.partition("_minus_")
            both = zip(found[second], found[first], strict=True)
            found[pair] = [round(after - before, 12) for after, before in both]  # 0.0875, not less
        for name, numbers in found.items():
            key = f"{prefix}seeds.{task}.{name}"
            values |= {f"{key}.{run['seed']}": x for run, x in zip(runs, numbers, strict=True)}
            values[f"{key}.mean"] = fmean(numbers)
            if len(numbers) > 1:
                values[f"{key}.sd"] = stdev(numbers)
                values[f"{key}.stderr"] = stdev(numbers) / len(numbers) ** 0.5
    return values


def find_problems(root: Path) -> Iterator[tuple[str, str | None]]:
    """Yields the name of each claim and page, and what is wrong with it; None: nothing.

    Raises:
        ValueError: a claim uses a value that is not measured.
    """
    claims, given = read_ledger(root)
    values = measure(root)
    for page, texts in given.items():
        content = _fold((root / page).read_text(encoding="utf-8"))
        known = read_table(root, page)
        for claim in claims:
            if claim.page == page:
                text = claim.render(values)
                known.append(text)
                problem = None if _fold(text) in content else f"the page does not say {text!r}"
                yield f"{page}: claim {claim.id}", problem
        for text in texts:
            if _fold(text) not in content:
                yield f"{page}: given", f"the page does not say {text!r}: remove it from {LEDGER}"
        yield f"{page}: every number has a claim", _find_unclaimed(root / page, [*known, *texts])


def read_table(root: Path, page: str) -> list[str]:
    """Returns the lines of the recorded results that the page shows, as `report` wrote them."""
    path = _list_tables(root).get(page)
    text = (root / path).read_text(encoding="utf-8") if path else ""
    return [line for line in text.splitlines() if line]


def _list_tables(root: Path) -> dict[str, Path]:
    """Returns by page the file of the recorded results that it shows, where there is one."""
    shown = {"README.md": CORE, f"{TRACKS}/README.md": ALL_TRACKS}
    tables = {page: graph.metrics / "report" / "results.md" for page, graph in shown.items()}
    return {page: path for page, path in tables.items() if (root / path).is_file()}


def _fold(text: str) -> str:
    """Returns the text with one space between words, wherever its lines were broken."""
    return " ".join(text.split())


def _strip(text: str) -> str:
    """Returns the text folded, with a bar for all that needs no claim."""
    return _fold(_NO_CLAIM.sub(" | ", text))


def _find_unclaimed(page: Path, known: list[str]) -> str | None:
    content = _strip(page.read_text(encoding="utf-8"))
    # Longer ones first: a shorter one may be part of them.
    for text in sorted({_strip(text) for text in known}, key=len)[::-1]:
        content = content.replace(text, " | ")
    found = re.search(rf"(?<![\w.\-]){_NUMBER}(?!\w)", content)
    if found is None:
        return None
    context = content[max(0, found.start() - 40) : found.end() + 30]
    return f"{found[0]!r} in {context!r}: add it to {LEDGER}, as a claim or as given"


def update_pages(root: Path) -> list[str]:
    """Writes the claims' present values into their pages, and returns the ids of those that moved.

    Raises:
        ValueError: a page has no such text with any numbers, or several.
    """
    claims, _ = read_ledger(root)
    values, moved = measure(root), []
    for claim in claims:
        path = root / claim.page
        content = path.read_text(encoding="utf-8")
        text = claim.render(values)
        if _fold(text) in _fold(content):
            continue
        found = list(re.finditer(claim.pattern(), content))
        if len(found) != 1:
            raise ValueError(f"{claim.page} has {len(found)} places for claim {claim.id}: {text!r}")
        path.write_text(content[: found[0].start()] + text + content[found[0].end() :], "utf-8")
        moved.append(claim.id)
    return moved


def render_ledger(root: Path) -> str:
    """Returns the ledger as Markdown: what each claim says now and rests on, and what is given."""
    claims, given = read_ledger(root)
    values = measure(root)
    commits = sorted({value for key, value in values.items() if key.endswith(".commit")})
    lines = ["| claim | page | says | rests on |", "|---|---|---|---|"]
    for claim in claims:
        text = _escape(claim.render(values))
        lines.append(f"| {claim.id} | {claim.page} | {text} | {claim.rests_on} |")
    for page, path in _list_tables(root).items():
        lines.append(f"| results | {page} | its tables | {path} |")
    lock, seeds = sha256_file(root / "containers/cpu.lock.txt"), values["seeds.all"]
    packages = f"packages: containers/cpu.lock.txt, sha256 {lock}"
    lines += [
        "",
        f"Commit {', '.join(commits)}; {packages}; {_describe_images(root)}.",
        f"Seeds {seeds}; one greedy response per problem (k = 1), where nothing else is said.",
        "",
        "Given, not measured:",
        "",
        "| page | says |",
        "|---|---|",
    ]
    for page, texts in given.items():
        lines += [f"| {page} | {_escape(text)} |" for text in texts]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    """Returns the text as a cell of a Markdown table."""
    return text.replace("|", "\\|")


def _describe_images(root: Path) -> str:
    """Returns the sha256 of the images in which the recorded stages ran."""
    runs = (read_json(path) for path in sorted((root / "runs").glob("*.json")))
    found = {run.get("image_sha256") for run in runs} - {None}
    return f"images {', '.join(sorted(found))}" if found else "no image"
