"""The command line: dvc.yaml calls `python -m stages run STAGE`.

That runs the stage where R1_SITE says (slurm/README.md): unset, in this process, as `exec` does
anywhere, and `controller` runs `dvc repro` itself as a job there. `render` prints the script of a
job, `preflight` is what that does first, and `serve` what it runs beside a stage that samples from
a server.

`check` reads params.yaml, `verify` checks what is published, `compare` reviews a change, `bisect`
says where two runs part, `audit` judges a run made again, `seeds` records runs with other seeds,
`provenance` writes down for others' tools what was made from what, `claims` prints every number of
the pages, with its source or as given. `track` says whether a run is like the recorded ones, whose
curves `reference` makes. `use` switches params.yaml to a recipe, `plan` estimates what one needs.
`publish` sends recorded data sets and checkpoints to the hub or to a DVC remote.
`page` writes all that is recorded as one HTML page.
"""

from __future__ import annotations

import argparse
import atexit
import errno
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages._contract import params
from stages._contract.places import KEYS, TRACKS, params_of
from stages._contract.run import PARAMS, run_stage

if TYPE_CHECKING:
    from collections.abc import Callable


def main(arguments: list[str]) -> int:
    """Runs the command and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stages", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_runners(commands)
    _add_readers(commands)
    options = parser.parse_args(arguments)
    try:
        cell = _cell_of(options) if hasattr(options, "section") else {}
    except ValueError as error:
        return _fail(error)
    if options.command == "run":
        return _run(options.stage, cell)
    if options.command == "exec":
        return run_stage(options.stage, cell, options.part)
    if options.command == "controller":
        return _control(options.dvc)
    actions: dict[str, Callable[[], int]] = {
        "render": lambda: _render(options.stage, cell),
        "preflight": lambda: _preflight(options, cell),
        "serve": lambda: _serve(options.stage, cell, options.endpoint),
        "use": lambda: _use(options.recipe),
        "plan": lambda: _plan(options.recipe, is_capacity=options.capacity),
        "check": _check,
        "verify": _verify,
        "compare": lambda: _compare(options.revision),
        "bisect": lambda: _bisect(options.a, options.b),
        "audit": lambda: _audit(options.folder),
        "seeds": lambda: _seeds(options.seed, is_tracks=options.tracks),
        "claims": lambda: _claims(write=options.write),
        "provenance": lambda: _provenance(options.out, options.key),
        "track": lambda: _track(options.stage, cell),
        "reference": lambda: _reference(write=options.write),
        "publish": lambda: _publish(options),
        "page": lambda: _page(options.out, options.since),
    }
    try:
        return actions[options.command]()
    except ValueError as error:
        return _fail(error)


def _fail(error: ValueError) -> int:
    print(f"rederive: {error}", file=sys.stderr)  # noqa: T201 - this is the message
    return 1


def _add_runners(commands: Any) -> None:
    """Adds the commands that run stages, or are parts of such a run."""
    for name, purpose in (
        ("run", "run one stage where R1_SITE says; unset: here"),
        ("exec", "run one stage in this process, whatever R1_SITE is"),
        ("render", "print the script that runs one stage, or controller, at the site R1_SITE"),
        ("preflight", "check that one stage can run on this node"),
        ("serve", "serve a stage's model by vLLM, for a stage that samples from a server"),
    ):
        more = ["controller"] if name == "render" else []
        _add_cell(commands.add_parser(name, help=purpose), more)
    execute = commands.choices["exec"]
    execute.add_argument("--part", type=_part, help="e.g. 2/8: do this share and publish nothing")
    preflight = commands.choices["preflight"]
    preflight.add_argument("--gpus", type=int, default=0, help="how many must be here")
    preflight.add_argument("--gpu-type", help="that they must be of")
    preflight.add_argument("--scratch-bytes", type=int, default=0, help="that must be free")
    preflight.add_argument(
        "--collective-timeout", type=float, default=0, help="seconds for an all-reduce; 0: none"
    )
    # What follows it is all DVC's, options too.
    controller = commands.add_parser(
        "controller",
        help="run dvc repro as a job of the site R1_SITE",
        prefix_chars="\0",
        add_help=False,
    )
    controller.add_argument("dvc", nargs="*", help="arguments of dvc repro")
    serve = commands.choices["serve"]
    serve.add_argument("--endpoint", type=Path, required=True, help="the file for its address")


def _add_readers(commands: Any) -> None:
    """Adds the commands that are about recipes and results, and run no stage here."""
    use = commands.add_parser("use", help="switch params.yaml to a recipe; no name: list them")
    use.add_argument("recipe", nargs="?", help="a file of recipes/, without .yaml")
    plan = commands.add_parser("plan", help="estimate memory and time of a recipe; runs nothing")
    plan.add_argument("recipe", nargs="?", help="a file of recipes/; not given: params.yaml")
    plan.add_argument("--capacity", action="store_true", help="print docs/capacity.md instead")
    commands.add_parser("check", help="check params.yaml against the stages")
    commands.add_parser("verify", help="check lock, scores, metrics and README; runs no model")
    compared = commands.add_parser("compare", help="print what changed since a commit, tracks too")
    compared.add_argument("revision", help="a branch, a tag or a commit")
    bisect = commands.add_parser(
        "bisect", help="print the first difference of two runs, tracks too"
    )
    for name in ("a", "b"):
        bisect.add_argument(name, help="a commit, or the folder of a clone")
    audit = commands.add_parser("audit", help="judge a run made again by the recorded one")
    audit.add_argument("folder", type=Path, help="the clone in which core or tracks ran")
    seeds = commands.add_parser("seeds", help="run the recipe with other seeds; record the scores")
    seeds.add_argument("seed", type=int, nargs="+")
    seeds.add_argument("--tracks", action="store_true", help="of the tracks; the core stays")
    claims = commands.add_parser("claims", help="print every number of the pages and its source")
    claims.add_argument("--write", action="store_true", help="first bring the pages up to date")
    provenance = commands.add_parser("provenance", help="export attestations, SBOMs, cards, crate")
    provenance.add_argument("out", type=Path, help="the folder to write")
    provenance.add_argument("--key", type=Path, help="a private key in PEM, to sign with")
    track = commands.add_parser("track", help="print a run's curves beside those of recorded runs")
    _add_cell(track, [], is_optional=True)
    reference = commands.add_parser("reference", help="compare the curves of recorded runs")
    reference.add_argument("--write", action="store_true", help="make them from the logs")
    _add_publish(commands)
    page = commands.add_parser("page", help="write the report as one HTML page; runs no model")
    page.add_argument("--out", type=Path, default=Path("report.html"), help="the file to write")
    page.add_argument("--since", default="HEAD", help="a commit: show what has run again since")


def _add_publish(commands: Any) -> None:
    publish = commands.add_parser("publish", help="send recorded artifacts to the hub or a remote")
    publish.add_argument("artifact", nargs="*", help="below artifacts/: sft, filter, r1/scenarios")
    publish.add_argument("--to", choices=["hub", "remote"], required=True)
    publish.add_argument("--repo", metavar="ORG/NAME", help="hub: ORG/NAME-sft, ORG/NAME-filter, …")
    publish.add_argument("--remote", metavar="NAME|ADDRESS", help="of DVC: s3://, ssh://, a folder")
    publish.add_argument("--license", metavar="SPDX", help="where the parts do not say it")
    publish.add_argument("--source", metavar="ADDRESS", help="of this repository, for the cards")
    publish.add_argument("--private", action="store_true", help="hub: new repositories are private")
    publish.add_argument(
        "--push", action="store_true", help="do it; without, only say what it does"
    )


def _add_cell(
    command: argparse.ArgumentParser, more: list[str], *, is_optional: bool = False
) -> None:
    choices = [*params.stage_names(), *more]
    command.add_argument("stage", choices=choices, nargs="?" if is_optional else None)
    command.add_argument("--track", help="a folder of tracks/; not given: the core graph")
    command.add_argument("--section", help="which of the stage's sections in its params.yaml")
    command.add_argument("--model", help="evaluate only: which model")
    command.add_argument("--task", help="evaluate only: which task")


def _cell_of(options: argparse.Namespace) -> dict[str, str]:
    """Returns the cell that the options name.

    Raises:
        ValueError: they do not belong to the stage, or not together; what would run has another's
            parameters, or writes another's files.
    """
    stage: str = options.stage
    cell = {key: getattr(options, key) for key in KEYS if getattr(options, key)}
    if cell and stage not in params.stage_names():  # none, or the controller
        raise ValueError(f"--{next(iter(cell))} says which run of a stage is meant: name a stage")
    for key in ("model", "task"):
        if key in cell and stage != "evaluate":
            raise ValueError(f"{stage}: --{key} is an option of evaluate alone: leave it out")
    if "section" in cell and "track" not in cell:
        raise ValueError(
            f"{stage}: --section {cell['section']} needs --track, whose section it is: "
            f"{_find_track(stage, cell['section'])}"
        )
    if "track" in cell and "section" not in cell:
        _check_core_s(stage, cell)
    return cell


def _find_track(stage: str, section: str) -> str:
    """Returns what to do to name the section's track."""
    paths = sorted(TRACKS.glob("*/params.yaml"))
    found = [
        path.parent.name for path in paths if section in params.read_sections(path).get(stage, {})
    ]
    if found:
        return " or ".join(f"--track {name}" for name in found)
    return f"none of {', '.join(path.parent.name for path in paths)} has such a section of {stage}"


def _check_core_s(stage: str, cell: dict[str, str]) -> None:
    """Refuses a track's cell with the core's parameters, but of an evaluation that has no others.

    A model is evaluated into a folder of its own; any other stage's is named by its section.
    """
    path = params_of(cell)
    sections = list(params.read_sections(path).get(stage, {}))
    if stage == "evaluate" and not sections:
        return
    remedy = " or ".join(f"--section {name}" for name in sections) or (
        f"{path} has none of {stage}; add one, {{}} if nothing differs"
    )
    raise ValueError(f"{stage}: --track {cell['track']} needs --section: {remedy}")


def _part(text: str) -> tuple[int, int]:
    """Returns what `2/8` means, the second of eight parts, as an index from 0 and their number."""
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if not found or int(found[1]) > int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} must be PART/PARTS, e.g. 2/8")
    return int(found[1]) - 1, int(found[2])


def _run(stage: str, cell: dict[str, str]) -> int:
    from stages._live.follow import choose, followed  # noqa: PLC0415 - `exec` needs none of it

    settings = choose(stage)
    if settings is None:
        return 1
    try:
        with followed(stage, cell, settings):
            return _run_at_site(stage, cell)
    except OSError as error:  # of the files to which the output goes
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        said = [error.__context__] if error.__context__ else []  # what could not be written
        for message in (*said, f"{error}: free some disk space and run again"):
            print(f"rederive: {stage}: {message}", file=sys.stderr)  # noqa: T201 - as above
        return 1


def _run_at_site(stage: str, cell: dict[str, str]) -> int:
    if (os.environ.get("R1_SITE") or "local") == "local":
        return run_stage(stage, cell)
    from stages._launch.launch import launch  # noqa: PLC0415 - needed at other sites only

    return launch(stage, cell)


def _control(arguments: list[str]) -> int:
    from stages._launch.launch import launch_controller  # noqa: PLC0415 - as above

    return launch_controller(arguments)


def _render(stage: str, cell: dict[str, str]) -> int:
    from stages._launch.launch import render_job  # noqa: PLC0415 - as above

    print(render_job(stage, cell), end="")  # noqa: T201
    return 0


def _preflight(options: argparse.Namespace, cell: dict[str, str]) -> int:
    from stages._launch.preflight import Demands, check_node  # noqa: PLC0415 - as above

    demands = Demands(
        num_gpus=options.gpus,
        gpu_type=options.gpu_type,
        min_scratch_bytes=options.scratch_bytes,
        collective_timeout_s=options.collective_timeout,
    )
    check_node(options.stage, cell, demands)
    return 0


def _serve(stage: str, cell: dict[str, str], endpoint: Path) -> int:
    from stages._launch.server import serve  # noqa: PLC0415 - as above

    return serve(stage, cell, endpoint)


def _check() -> int:
    sections = params.load_all(PARAMS)
    print(f"{PARAMS}: {len(sections)} sections are in order")  # noqa: T201
    for path in sorted(TRACKS.glob("*/params.yaml")):
        cells = [
            (stage, {"track": path.parent.name, "section": section})
            for stage, found in params.read_sections(path).items()
            for section in found
        ]
        for stage, cell in cells:
            params.load_cell(PARAMS, stage, cell)
        print(f"{path}: {len(cells)} sections are in order")  # noqa: T201
    return 0


def _use(recipe: str | None) -> int:
    from stages._plan.recipes import list_recipes, show_change, switch_to  # noqa: PLC0415 - rare

    if recipe is None:
        for name, title in list_recipes().items():
            print(f"{name:24} {title}")  # noqa: T201
        return 0
    change = show_change(recipe)
    print(change or f"{PARAMS} is this recipe already", end="" if change else "\n", flush=True)  # noqa: T201
    if change:
        switch_to(recipe)
    return 0


def _plan(recipe: str | None, *, is_capacity: bool) -> int:
    from stages._plan.capacity import render_capacity  # noqa: PLC0415 - rare
    from stages._plan.estimate import render_estimates  # noqa: PLC0415 - rare
    from stages._plan.recipes import find_recipe  # noqa: PLC0415 - rare

    path = PARAMS if recipe is None else find_recipe(recipe)
    text = render_capacity() if is_capacity else render_estimates(str(path), params.load_all(path))
    print(text, end="")  # noqa: T201
    return 0


def _verify() -> int:
    from stages._audit.verify import verify  # noqa: PLC0415 - imports DVC, which takes a second

    claims = verify(Path())
    for claim in claims:
        verdict = "FAIL" if claim.problem else "PASS"
        note = f" ({claim.note})" if claim.note else ""
        print(f"{verdict} {claim.name}{note}" + (f": {claim.problem}" if claim.problem else ""))  # noqa: T201
    num_failed = sum(claim.problem is not None for claim in claims)
    print(f"{len(claims) - num_failed} of {len(claims)} claims hold")  # noqa: T201
    return int(num_failed > 0)


def _compare(revision: str) -> int:
    from stages._audit.compare import render_comparison  # noqa: PLC0415 - as above

    print(render_comparison(Path(), revision), end="")  # noqa: T201
    return 0


def _bisect(a: str, b: str) -> int:
    from stages._audit.bisect import (  # noqa: PLC0415 - as above
        describe_graphs,
        find_first_difference,
        open_run,
    )

    runs = [open_run(Path(), name) for name in (a, b)]
    difference = find_first_difference(*runs)
    lines = [str(difference or "no difference in the outputs"), *describe_graphs(*runs)]
    print("\n".join(lines))  # noqa: T201
    return int(difference is not None)


def _audit(folder: Path) -> int:
    from stages._audit.audit import audit  # noqa: PLC0415 - imports scipy, which takes a second

    holds, page = audit(Path(), folder)
    print(page, end="")  # noqa: T201
    return int(not holds)


def _seeds(seeds: list[int], *, is_tracks: bool) -> int:
    from stages._audit.seeds import ALL_TRACKS, CORE, record_seeds  # noqa: PLC0415 - as above

    for path in record_seeds(Path(), seeds, ALL_TRACKS if is_tracks else CORE):
        print(f"recorded {path}", flush=True)  # noqa: T201
    return 0


def _claims(*, write: bool) -> int:
    from stages._audit.claims import render_ledger, update_pages  # noqa: PLC0415 - as above

    if write:
        for name in update_pages(Path()):
            print(f"updated claim {name}", file=sys.stderr)  # noqa: T201
    print(render_ledger(Path()), end="")  # noqa: T201
    return 0


def _provenance(out: Path, key: Path | None) -> int:
    from stages._audit.provenance.export import export  # noqa: PLC0415 - in its own environment

    export(Path(), out, key)
    print(f"wrote {out}")  # noqa: T201
    return 0


def _track(stage: str | None, cell: dict[str, str]) -> int:
    from stages._live.track import render  # noqa: PLC0415 - rare

    verdict = render(Path(), (stage, cell) if stage else None)
    print(verdict.text, end="")  # noqa: T201
    return int(verdict.is_on_track is False)


def _reference(*, write: bool) -> int:
    from stages._live.reference import update_references  # noqa: PLC0415 - rare

    num_other = 0
    for path, is_same in update_references(Path(), write=write):
        num_other += not is_same
        word = "is as the logs say" if is_same else "written" if write else "is not as the logs say"
        print(f"{path}: {word}")  # noqa: T201
    return int(num_other > 0 and not write)


def _publish(options: argparse.Namespace) -> int:
    if missing := [name for name in ("dvc_s3", "dvc_ssh", "mlcroissant") if not find_spec(name)]:
        raise ValueError(
            f"publish needs {', '.join(missing)}, which have an environment of their own: "
            f"`python3 -m nox -s publish -- --to {options.to} …` makes it and runs the same"
        )
    from stages._publish.publish import Options, publish  # noqa: PLC0415 - in its own environment

    asked = Options(
        names=options.artifact,
        to=options.to,
        repo=options.repo,
        remote=options.remote,
        licence=options.license,
        source=options.source,
        is_private=options.private,
        push=options.push,
    )
    for line in publish(Path(), asked):
        print(line, flush=True)  # noqa: T201
    return 0


def _page(out: Path, since: str) -> int:
    from stages._page.page import write_page  # noqa: PLC0415 - imports DVC, which takes a second

    num_bytes = write_page(Path(), out, since)
    print(f"wrote {out}, {num_bytes / 1e6:.1f} MB")  # noqa: T201
    return 0


def _exit(status: int) -> None:
    """Ends the process as `sys.exit` does, but for the interpreter's last round of destructors.

    There Triton's bindings, which vLLM loads, print 40 lines about "leaked" functions, which look
    like a failure and cannot be switched off.
    """
    atexit._run_exitfuncs()  # noqa: SLF001 - as multiprocessing does before it ends a child
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _exit(main(sys.argv[1:]))
