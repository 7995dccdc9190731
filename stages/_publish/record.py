"""What dvc.lock records of artifacts, and whether files, code and commit agree with that."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvc.dependency import ParamsDependency
from ruamel.yaml import YAML

from stages._audit.git import git, read_at
from stages._audit.published import is_made, read_json, split_command
from stages._audit.verify import compare_code, find_changed_params, find_changes, list_recorded
from stages._contract.params import load_cell
from stages._publish.files import digest_as_dvc, digest_folder, read_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dvc.repo import Repo
    from dvc.stage import Stage

    from stages._publish.files import File

FOLDER = "artifacts"


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A folder that a stage has made, as a lock records it.

    `name` is its path below artifacts/, `kind` the stage's folder in stages/, `run` the stem of its
    manifest in runs/, `lock` the lock's path, `entry` the stage's entry there. `sources` are the
    artifacts that it was made from, directly or not, each after its own.
    """

    name: str
    kind: str
    run: str
    lock: str
    entry: dict[str, Any]
    stage: Stage
    sources: tuple[Artifact, ...]

    @property
    def path(self) -> str:
        """Returns its folder, relative to the repository."""
        return f"{FOLDER}/{self.name}"

    @property
    def judged_in(self) -> str:
        """Returns the folder of its evaluations, if it is a model that is evaluated."""
        path = Path(self.path)
        return (path.parent / "evaluate" / path.name).as_posix()

    @property
    def md5(self) -> str:
        """Returns the lock's digest of the folder."""
        return next(str(out["md5"]) for out in self.entry["outs"] if out["path"] == self.path)

    @property
    def target(self) -> str:
        """Returns what `dvc repro` calls the stage."""
        return _address(self.stage)

    @property
    def cell(self) -> dict[str, str]:
        """Returns which run of the stage it is, as its command says."""
        return split_command(self.stage.cmd)[1]

    def read_params(self, root: Path) -> dict[str, Any]:
        """Returns the stage's parameters, which are the recorded ones if `check_record` says so."""
        return asdict(load_cell(root / "params.yaml", self.kind, self.cell))


def list_artifacts(repo: Repo, root: Path) -> dict[str, Artifact]:
    """Returns all artifacts that the locks record, by name, each after those it was made from."""
    stages = list_recorded(repo)
    locks = {
        path: YAML(typ="safe", pure=True).load(root / path)["stages"]
        for path in {_lock_of(stage, root) for _, stage in stages}
        if (root / path).is_file()
    }
    recorded = {
        out["path"]: (run, stage, locks[_lock_of(stage, root)][stage.name])
        for run, stage in stages
        for out in locks.get(_lock_of(stage, root), {}).get(stage.name, {}).get("outs", [])
        if Path(out["path"]).is_relative_to(FOLDER)
    }
    found: dict[str, Artifact] = {}

    def add(path: str) -> Artifact:
        name = Path(path).relative_to(FOLDER).as_posix()
        if name not in found:
            run, stage, entry = recorded[path]
            read = [dep["path"] for dep in entry["deps"]]
            direct = [add(p) for p in sorted(recorded) if any(is_made(d, [p]) for d in read)]
            sources = {a.name: a for source in direct for a in (*source.sources, source)}
            found[name] = Artifact(
                name=name,
                kind=split_command(stage.cmd)[0],
                run=run,
                lock=_lock_of(stage, root),
                entry=entry,
                stage=stage,
                sources=tuple(sources.values()),
            )
        return found[name]

    for path in sorted(recorded):
        add(path)
    return found


def _address(stage: Stage) -> str:
    """Returns what `dvc repro` calls the stage in the repository's folder."""
    path = Path(stage.path).relative_to(stage.repo.root_dir).as_posix()
    return str(stage.name) if path == "dvc.yaml" else f"{path}:{stage.name}"


def _lock_of(stage: Stage, root: Path) -> str:
    return Path(stage.path).with_name("dvc.lock").relative_to(root.resolve()).as_posix()


def choose(artifacts: dict[str, Artifact], names: Sequence[str]) -> list[Artifact]:
    """Returns the named artifacts.

    Raises:
        ValueError: no lock records one of that name.
    """
    for name in names:
        if name not in artifacts:
            near = get_close_matches(name, artifacts, n=1)
            raise ValueError(
                f"no lock records {FOLDER}/{name}"
                + (f": did you mean {near[0]!r}?" if near else "")
                + f" (there are {', '.join(artifacts) or 'none: run `dvc repro`'})"
            )
    return [artifacts[name] for name in dict.fromkeys(names)]


def check_tree(root: Path) -> None:
    """Checks that the files are those of HEAD.

    Raises:
        ValueError: they are not.
    """
    listing = git(root, "status", "--porcelain", "--untracked-files=no")
    if listing.returncode:
        raise ValueError(f"git cannot read {root.resolve()}: {listing.stderr.strip()}")
    if listing.stdout:
        changed = ", ".join(line[3:] for line in listing.stdout.splitlines())
        raise ValueError(
            f"the tree is dirty ({changed}): commit the changes, or `git stash`; what is published "
            "is what a commit records"
        )


def find_commit(root: Path, artifact: Artifact) -> str:
    """Returns the commit that recorded the artifact: the last one that changed its locks.

    Raises:
        ValueError: a lock is in no commit.
    """
    locks = sorted({a.lock for a in (*artifact.sources, artifact)})
    for path in locks:
        if read_at(root, "HEAD", path) is None:
            raise ValueError(f"{path} is in no commit: `git add {path} runs metrics`, and commit")
    return git(root, "log", "-1", "--format=%H", "--", *locks).stdout.strip()


def check_record(root: Path, artifact: Artifact) -> list[File]:
    """Returns the artifact's files, if they are what was recorded.

    The code and the parameters that made it, what it was made from, and what evaluates it must be
    so, too, as far as they are here.

    Raises:
        ValueError: something differs; says what, and the remedy.
    """
    files = _check_bytes(root, artifact)
    stages = list_recorded(artifact.stage.repo)
    made = {out.fs_path: out.hash_info for _, stage in stages for out in stage.outs}
    sources = {a.run for a in (*artifact.sources, artifact)}
    for run, stage in stages:
        if run not in sources and not _judges(stage, artifact):
            continue
        problems = [
            *find_changes(stage, made, files_too=False),
            *_find_later_changes(root, run, stage, made),
        ]
        if problems:
            raise ValueError(
                f"{run}: HEAD is not what dvc.lock records ({'; '.join(problems)}): run `dvc repro "
                f"{_address(stage)}`, and commit what it writes"
            )
    written = _read_run(root, artifact.run)["outputs"].get(artifact.path)
    if written != digest_folder(files):
        raise ValueError(
            f"runs/{artifact.run}.json is of another {artifact.path} than {artifact.lock}: commit "
            f"both from one run, `dvc repro --force {artifact.target}`"
        )
    return files


def _judges(stage: Stage, artifact: Artifact) -> bool:
    """Returns whether the stage evaluates the artifact, or reports that, and has run."""
    if not any(out.hash_info for out in stage.outs):
        return False
    read = {Path(dep.fs_path).relative_to(stage.repo.root_dir).as_posix() for dep in stage.deps}
    kind = split_command(stage.cmd)[0]
    return artifact.judged_in in read or (kind == "evaluate" and artifact.path in read)


def _check_bytes(root: Path, artifact: Artifact) -> list[File]:
    """Returns the artifact's files, whose bytes are hashed here: DVC believes sizes and times."""
    folder = root / artifact.path
    if not folder.is_dir():
        raise ValueError(
            f"{artifact.path} is not here: `dvc checkout {artifact.path}`, or `dvc pull` it from "
            "a remote that has it"
        )
    files = read_folder(folder)
    if digest_as_dvc(files) != artifact.md5:
        which = _name_differences(root, artifact, files)
        raise ValueError(
            f"{artifact.path} is not what {artifact.lock} records{which}: `dvc checkout --force "
            f"{artifact.path}`, or `dvc repro {artifact.target}` and commit"
        )
    return files


def _name_differences(root: Path, artifact: Artifact, files: Sequence[File]) -> str:
    """Returns which files differ, if the cache has the lock's list of them."""
    repo = artifact.stage.repo
    listing = Path(repo.cache.local.oid_to_path(artifact.md5))
    if not (root / listing).is_file():
        return ""
    recorded = {row["relpath"]: row["md5"] for row in json.loads((root / listing).read_bytes())}
    here = {file.path: file.md5 for file in files}
    names = sorted(recorded.keys() | here.keys())
    return f" ({', '.join(name for name in names if recorded.get(name) != here.get(name))})"


def _find_later_changes(root: Path, name: str, stage: Stage, made: dict[str, Any]) -> Iterator[str]:
    """Yields in what HEAD differs from the commit that the stage ran at."""
    run = _read_run(root, name)
    if run["dirty"]:
        yield f"runs/{name}.json is of a run with uncommitted changes"
        return
    params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
    others = [dep.fs_path for dep in stage.deps if dep not in params]
    code = [path for path in others if not is_made(path, made)]
    problem, note = compare_code(root, run["commit"], code)
    if problem:
        yield problem
    if not note:
        yield from find_changed_params(root, run["commit"], params)


def _read_run(root: Path, name: str) -> dict[str, Any]:
    path = f"runs/{name}.json"
    if read_at(root, "HEAD", path) is None:
        raise ValueError(f"{path} is in no commit: `git add {path}`, and commit")
    run: dict[str, Any] = read_json(root / path)
    return run
