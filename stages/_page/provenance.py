"""What the recorded run rests on: commits, machines, images, packages; and what verify says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages._audit.git import git
from stages._audit.verify import Claim, verify
from stages._contract.artifacts import sha256_file

if TYPE_CHECKING:
    from pathlib import Path

    from stages._page.graph import Graph, Stage


@dataclass(frozen=True, slots=True)
class Checkout:
    """The commit that is checked out; date as git has it."""

    commit: str
    date: str
    subject: str
    changed: list[str]  # tracked files


@dataclass(frozen=True, slots=True)
class Fact:
    """A value of the manifests, and the stages that have it."""

    name: str
    value: str
    stages: list[str]


@dataclass(frozen=True, slots=True)
class Provenance:
    """All of it."""

    checkout: Checkout
    facts: list[Fact]
    packages: list[tuple[str, str]]
    num_runs: int
    dirty: list[str]  # stages that ran with uncommitted changes
    other_params: list[str]  # stages that ran with another params.yaml
    claims: list[Claim]

    @property
    def failed(self) -> list[Claim]:
        """Returns the claims that do not hold."""
        return [claim for claim in self.claims if claim.problem]

    @property
    def noted(self) -> list[Claim]:
        """Returns the claims that hold as far as could be seen here."""
        return [claim for claim in self.claims if claim.note and not claim.problem]


def read_checkout(root: Path) -> Checkout:
    """Returns what git says of the working tree.

    Raises:
        ValueError: the folder is in no repository of git's.
    """
    done = git(root, "log", "-1", "--format=%H%n%cs%n%s")
    if done.returncode:
        raise ValueError(f"git has no commit in {root.resolve()}: {done.stderr.strip()}")
    commit, date, subject = done.stdout.split("\n")[:3]
    listing = git(root, "status", "--porcelain", "--untracked-files=no").stdout
    return Checkout(commit, date, subject, [line[3:] for line in listing.splitlines()])


def read_provenance(root: Path, graph: Graph) -> Provenance:
    """Returns the facts of all manifests, and every claim that `verify` checks."""
    ran = [stage for stage in graph.stages.values() if stage.manifest]
    digest = sha256_file(root / "params.yaml")
    manifests = {stage.run: stage.manifest or {} for stage in ran}
    packages = {(name, v) for m in manifests.values() for name, v in m["packages"].items()}
    return Provenance(
        checkout=read_checkout(root),
        facts=_list_facts(ran),
        packages=sorted(packages),
        num_runs=len(ran),
        dirty=[name for name, m in manifests.items() if m["dirty"]],
        other_params=[name for name, m in manifests.items() if m["params_sha256"] != digest],
        claims=verify(root),
    )


def _list_facts(ran: list[Stage]) -> list[Fact]:
    """Returns each value of what may differ between the stages' runs, with their names."""
    found: dict[tuple[str, str], list[str]] = {}
    for stage in ran:
        for name, value in _describe(stage.manifest or {}).items():
            found.setdefault((name, value), []).append(stage.run)
    order = {name: index for index, (name, _) in reversed(list(enumerate(found)))}
    return [
        Fact(name, value, stages)
        for (name, value), stages in sorted(found.items(), key=lambda item: order[item[0][0]])
    ]


def _describe(run: dict[str, Any]) -> dict[str, str]:
    machine, settings = run["machine"], run["facts"].get("settings", {})
    facts = {
        "Commit": run["commit"] or "none: outside of git",
        "Uncommitted changes": "yes" if run["dirty"] else "no",
        "Image": f"sha256 {run['image_sha256']}" if run["image_sha256"] else "none",
        "CPU": f"{machine['cpu']}, {machine['num_cpus']} cores",
        "Threads": machine["num_threads"] or "as the libraries choose",
        "Instruction sets there": " ".join(machine["isa"]),
        "System": f"{machine['system']}, {machine['libc']}, Python {run['python']}",
        "Day": run["start"][:10],
    }
    if "cpu_capability" in settings:
        facts["Instruction sets used"] = settings["cpu_capability"]
    if "dtype" in settings:
        facts["Numbers"] = settings["dtype"].removeprefix("torch.")
    return facts
