"""The first level of an audit: do lock, parameters, files, scores and pages agree? No model runs.

It works in a clean clone; artifacts that are absent are not checked, and counted. What it cannot
see: whether the recorded run took place. For that, run the recipe again (REPRODUCE.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, reduce
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from ruamel.yaml import YAML

from stages._audit.claims import find_problems, read_table
from stages._audit.git import git, read_at
from stages._audit.published import is_made, name_command, name_run, read_json, read_run
from stages._audit.seeds import ALL_TRACKS, CORE, Graph, read_seeds
from stages._contract.artifacts import read_jsonl, sha256_tree
from stages._contract.params import load, load_all, load_cell, read_sections
from stages._contract.places import TRACKS, below
from stages.evaluate.band import check_band, is_model
from stages.evaluate.task import load_scorer, read_task
from stages.report.paired import measure_accuracy
from stages.report.stage import check_same_problems, compare_models
from stages.report.table import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from dvc.stage import Stage

    from stages.evaluate.tasks.scoring import Scorer
    from stages.report.params import ReportParams

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that the repository claims, and what is wrong with it; None: it holds."""

    name: str
    problem: str | None
    note: str = ""


def verify(root: Path) -> list[Claim]:
    """Returns all claims, checked; `root` is the repository's folder."""
    checks: tuple[Callable[[Path], Iterator[Claim]], ...] = (
        _check_pins,
        _check_git,
        _check_lock,
        _check_manifests,
        _check_seeds,
        _check_scores,
        _check_pages,
    )
    claims = []
    for check in checks:
        try:
            for claim in check(root):  # one by one: what comes before an error is kept
                claims.append(claim)  # noqa: PERF402
        except (ValueError, KeyError, FileNotFoundError, DvcException) as error:
            name = check.__name__.removeprefix("_check_")
            claims.append(Claim(name, f"cannot be checked: {type(error).__name__}: {error}"))
    return claims


def _check_pins(root: Path) -> Iterator[Claim]:
    """Models and data sets: params.yaml's own rules refuse what is not pinned. Packages: hashes."""
    load_all(root / "params.yaml")
    yield Claim("params.yaml: values in bounds, sources pinned", None)
    for lock in sorted((root / "containers").glob("*.lock.txt")):
        # A package's line, and the indented ones below it.
        blocks = re.findall(r"(?m)^[^\s#].*(?:\n .*)*", lock.read_text(encoding="utf-8"))
        digest = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")
        bare = [block.split()[0] for block in blocks if not digest.search(block)]
        problem = f"no sha256 for {', '.join(bare)}" if bare else None
        yield Claim(f"{lock.name}: every package has a hash", problem)


def _check_git(root: Path) -> Iterator[Claim]:
    """Files against their commit, and the commits that the manifests name against the code."""
    listing = git(root, "status", "--porcelain", "--untracked-files=no").stdout
    changed = [line[3:] for line in listing.splitlines()]  # after two letters and a space
    problem = f"changed since: {', '.join(changed)}" if changed else None
    yield Claim(
        f"git: the files are those of {git(root, 'rev-parse', 'HEAD').stdout[:10]}", problem
    )
    with Repo(str(root)) as repo:
        stages = list_recorded(repo)
        made = {out.fs_path for _, stage in stages for out in stage.outs}
        for run_name, stage in stages:
            run = read_json(root / "runs" / f"{run_name}.json")
            params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
            others = [dep.fs_path for dep in stage.deps if dep not in params]
            code = [path for path in others if not is_made(path, made)]
            name = f"runs/: {run_name} ran at {run['commit'][:10]}, with the code that is here"
            if run["dirty"]:
                yield Claim(name, "with uncommitted changes")
                continue
            problem, note = compare_code(root, run["commit"], code)
            problems = [problem] if problem else []
            problems += [] if note else find_changed_params(root, run["commit"], params)
            yield Claim(name, "; ".join(problems) or None, note)


def find_changed_params(
    root: Path, commit: str, params: Iterable[ParamsDependency]
) -> Iterator[str]:
    """Yields the stage's own sections of parameters that were others in the commit."""
    for dep in params:
        path = Path(dep.fs_path).relative_to(root.resolve()).as_posix()
        files = [
            _parse(read_at(root, commit, path) or "{}"),
            _parse((root / path).read_text("utf-8")),
        ]
        for key in dep.params:
            sections = [reduce(lambda d, k: d.get(k, {}), key.split("."), file) for file in files]
            if sections[0] != sections[1]:
                yield f"changed since: {path}: {key}"


@cache
def _parse(text: str) -> Any:
    """Returns what the YAML says; parameters are the same text for nearly all stages."""
    return YAML(typ="safe", pure=True).load(text)


def list_recorded(repo: Repo) -> list[tuple[str, Stage]]:
    """Returns each stage of the core graph and of the tracks that were run, by its run's name.

    A track without a lock claims nothing.
    """
    stages = [
        stage
        for stage in repo.index.stages
        if not _is_track(stage) or Path(stage.path).with_name("dvc.lock").is_file()
    ]
    names = [name_command(s.cmd) if _is_track(s) else name_run(s.name) for s in stages]
    return sorted(zip(names, stages, strict=True), key=itemgetter(0))


def _is_track(stage: Stage) -> bool:
    return Path(stage.path).parent.parent.name == TRACKS.name


def compare_code(root: Path, commit: str, paths: Iterable[str]) -> tuple[str | None, str]:
    """Returns what of the code has changed since a run's commit, if anything has, and a note."""
    # Documentation is no code.
    done = git(root, "diff", "--name-only", commit, "HEAD", "--", *paths, ":!*.md")
    problem = f"changed since: {', '.join(done.stdout.split())}" if done.stdout else None
    note = "not compared: this history, squashed or shallow, has no such commit"
    return problem, note if done.returncode else ""


def _check_lock(root: Path) -> Iterator[Claim]:
    """dvc.lock against dvc.yaml, params.yaml, the code, and the outputs that are here."""
    with Repo(str(root)) as repo:
        stages = list_recorded(repo)
        made = {out.fs_path: out.hash_info for _, stage in stages for out in stage.outs}
        for name, stage in stages:
            problems = [*find_changes(stage, made)]
            absent = sum(out.use_cache and not out.exists for out in stage.outs)
            note = "its output is not here" if absent else ""
            yield Claim(f"dvc.lock: {name}", "; ".join(problems) or None, note)


def find_changes(stage: Stage, made: Mapping[str, Any], *, files_too: bool = True) -> Iterator[str]:
    """Yields in what a stage's entry in the lock is not that of the files.

    Args:
        stage: which.
        made: by path, what the lock says of all outputs.
        files_too: look at files that stages have made as well, where they are here, instead of
            comparing the entries alone.
    """
    if stage.cmd_changed:
        yield "another command than in dvc.yaml"
    for dep in stage.deps:
        if dep.fs_path in made and dep.hash_info != made[dep.fs_path]:
            yield f"{dep} was recorded with another hash by the stage that makes it"
        if (files_too and dep.exists) or not is_made(dep.fs_path, made):
            for path, change in dep.status().items():
                details = {path: change} if isinstance(change, str) else change
                yield from (f"{name} is {word}" for name, word in details.items())
    for out in stage.outs:
        if (files_too and out.exists) or not out.use_cache:
            for path, change in out.workspace_status().items():
                yield f"{path} is {change}"


def _check_manifests(root: Path) -> Iterator[Claim]:
    """What a stage read is what others read and wrote, by the sha256 in the manifests."""
    runs = {path.stem: read_json(path) for path in sorted((root / "runs").glob("*.json"))}
    wrote = {path: digest for run in runs.values() for path, digest in run["outputs"].items()}
    read: dict[str, str] = {}
    for stage, run in runs.items():
        problems = []
        for path, digest in run["inputs"].items():
            if digest != wrote.get(path, digest):
                problems.append(f"{path} is not what was written")
            if digest != read.setdefault(path, digest):
                problems.append(f"{path} is not what another stage read")
        for path, digest in run["outputs"].items():
            if (root / path).exists() and sha256_tree(root / path) != digest:
                problems.append(f"{path} is not what this run wrote")
        yield Claim(f"runs/{stage}.json: inputs and outputs", "; ".join(problems) or None)
    if "artifacts/sft" in read_run(root, "grpo")["inputs"]:  # and not another model
        sft, grpo = (read_jsonl(root / f"runs/{stage}.steps.jsonl") for stage in ("sft", "grpo"))
        problem = None if sft[-1]["weights"] == grpo[0]["weights"] else "sft ended with others"
        yield Claim("runs/grpo.steps.jsonl: the weights before the first step", problem)


def _check_seeds(root: Path) -> Iterator[Claim]:
    """Runs with other seeds: of the code that is here, or of code that answered as it does.

    Same model and problems. Where the code has changed, the two recorded runs must have the same
    responses to all evaluation problems, byte for byte: then the change is none of the recipe.
    """
    yield from _check_graph_s_seeds(root, CORE, ("params.yaml", "dvc.yaml"))
    if (root / ALL_TRACKS.metrics).is_dir():
        yield from _check_graph_s_seeds(root, ALL_TRACKS, ("params.yaml", TRACKS.name))


def _check_graph_s_seeds(root: Path, graph: Graph, files: Sequence[str]) -> Iterator[Claim]:
    recorded, *others = read_seeds(root, graph)
    code = ("containers/cpu.lock.txt", "stages", ":!stages/_audit", ":!stages/__main__.py")
    for run in others:
        path = graph.folder / f"{run['seed']}.json"
        name = f"{path}: ran at {run['commit'][:10]} with this code"
        changed, note = compare_code(root, run["commit"], (*files, *code))
        responses = [f"{graph.metrics}/report/samples"]
        if changed and not compare_code(root, run["commit"], responses)[0]:
            changed, note = None, "the code has changed since, the recorded responses have not"
        problems = [changed] if changed else []
        problems += [
            f"{stage} had another output"
            for stage in ("fetch", "prompts")
            if graph is CORE
            and run["outs"][stage] != recorded["outs"][stage]
            and not _is_read_alike(root, run, stage)
        ]
        yield Claim(name, "; ".join(problems) or None, note)


def _is_read_alike(root: Path, run: Row, stage: str) -> bool:
    """Returns whether all that others read of the stage's output is what they read in that run.

    By dvc.lock at the run's commit, where the output is the run's: it may lack what has come since.
    """
    yaml = YAML(typ="safe", pure=True)
    text = read_at(root, run["commit"], "dvc.lock")
    if text is None:
        return False
    before, now = yaml.load(text)["stages"], yaml.load(root / "dvc.lock")["stages"]
    (out,) = before[stage]["outs"][:1]
    reads = [
        {
            dep["path"]: dep["md5"]
            for entry in lock.values()
            for dep in entry["deps"]
            if Path(dep["path"]).is_relative_to(out["path"]) and dep["path"] != out["path"]
        }
        for lock in (before, now)
    ]
    return out["md5"] == run["outs"][stage] and reads[0].items() <= reads[1].items()


def _check_scores(root: Path) -> Iterator[Claim]:
    """Every response is scored again; results and differences follow from that alone."""
    yield from _check_table(root, Path("metrics"), load(root / "params.yaml", "report"))
    for track in sorted(path.parent for path in (root / TRACKS).glob("*/dvc.lock")):
        for section in read_sections(track / "params.yaml").get("report", {}):
            cell = {"track": track.name, "section": section}
            values = load_cell(root / "params.yaml", "report", cell)
            yield from _check_table(root, below("metrics", cell), values)


def _check_table(root: Path, folder: Path, params: ReportParams) -> Iterator[Claim]:
    """What one report shows, from the responses that it has copied into the folder."""
    metrics = root / folder
    results: dict[str, dict[str, Any]] = {model: {} for model in params.models}
    accuracies: dict[str, dict[str, dict[str, float]]] = {task: {} for task in params.tasks}
    configs = {t: read_task(root / f"stages/evaluate/tasks/{t}.yaml") for t in params.tasks}
    scorers = {task: load_scorer(config) for task, config in configs.items()}
    for model in params.models:
        recorded = read_json(metrics / "evaluate" / f"{model}.json")
        for task in params.tasks:
            name = f"{folder}/report/samples/{model}/{task}.jsonl"
            rows = read_jsonl(root / name)
            scorer = scorers[task]
            title = f"{name}: the scores of {len(rows)} problems"
            if scorer.kept is None:  # what judges them is too large to be beside them
                yield Claim(title, None, "not judged again: `dvc repro evaluate` does that")
                problems = {}
            else:
                problems = {row["id"]: scorer.prepare(to_problem(row)) for row in rows}
                wrong = [r["id"] for r in rows if not is_scored_right(scorer, r, problems)]
                yield Claim(title, f"scored wrongly: {', '.join(wrong)}" if wrong else None)
            results[model][task] = scorer.summarise(rows, problems)
            accuracies[task][model] = measure_accuracy(rows)
        yield _compare(f"{folder}/evaluate/{model}.json", recorded, results[model])
    yield from _check_bands(root, f"{folder}/evaluate", configs, results)
    for task, by_model in accuracies.items():
        check_same_problems(task, by_model)
    paired = compare_models(accuracies, params.pairs, params.confidence)
    yield _compare(f"{folder}/paired.json", read_json(metrics / "paired.json"), paired)
    page = (metrics / "report" / "results.md").read_text(encoding="utf-8")
    expected = render(results, paired, params.confidence)
    for line, found in zip(expected.splitlines(), page.splitlines(), strict=False):
        if line != found:
            yield Claim(f"{folder}/report/results.md", f"{found!r} should be {line!r}")
            return
    yield Claim(f"{folder}/report/results.md", None if page == expected else "lines are missing")


def _check_bands(
    root: Path, folder: str, configs: dict[str, Row], results: dict[str, dict[str, Row]]
) -> Iterator[Claim]:
    """Where the base model is one that is known to score between two values, it does."""
    source = load(root / "params.yaml", "fetch").source
    for task, config in configs.items():
        band = config["metadata"].get("band")
        if band and "base" in results and is_model(source, band):
            found = check_band(results["base"][task], band)
            yield Claim(f"{folder}/base.json: {task} is in its band", found)


def to_problem(row: Row) -> Row:
    """Returns the problem that a row of the samples in git is about."""
    prompt = [{"role": "user", "content": row["question"]}]
    columns = row.get("columns", {})
    return {"id": row["id"], "prompt": prompt, "answer": row["answer"], **columns}


def is_scored_right(scorer: Scorer, row: Row, problems: dict[str, Row]) -> bool:
    """Returns whether the row's answers, judged again, are right and wrong as it says."""
    answers = scorer.answers_of(row)
    formatted = [answer is not None for answer in answers]
    correct = scorer.score_answers(answers, problems[row["id"]])
    return (formatted, correct) == (row["formatted"], row["correct"])


def _compare(name: str, recorded: Any, computed: Any) -> Claim:
    """Returns the claim that a file holds what was computed, to the last bit."""
    differences = list(_find_differences("", recorded, computed))
    return Claim(name, "; ".join(differences) or None)


def _find_differences(key: str, recorded: Any, computed: Any) -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(computed, dict):
        for name in sorted(recorded.keys() | computed.keys()):
            yield from _find_differences(f"{key}.{name}", recorded.get(name), computed.get(name))
    elif recorded != computed:
        yield f"{key[1:]} is {recorded}, recomputed {computed}"


def _check_pages(root: Path) -> Iterator[Claim]:
    """What the pages say of the results and of the run that made them: the ledger of claims."""
    for page in ("README.md", f"{TRACKS}/README.md"):
        table = read_table(root, page)
        if not table:
            continue
        shown = set((root / page).read_text(encoding="utf-8").splitlines())
        missing = [line for line in table if line not in shown]
        yield Claim(f"{page}: the results", f"missing: {missing[0]}" if missing else None)
    readme = (root / "README.md").read_text(encoding="utf-8")
    runs = [read_json(path) for path in sorted((root / "runs").glob("*.json"))]
    commits = {run["commit"][:10] for run in runs}
    for commit in sorted(commits):
        problem = None if f"`{commit}`" in readme else f"the README does not say `{commit}`"
        yield Claim(f"README.md: commit {commit}", problem)
    for name, problem in find_problems(root):
        yield Claim(name, problem)
