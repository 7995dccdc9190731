"""The command line: dvc.yaml calls `python -m stages run STAGE`.

That runs the stage where R1_SITE says (slurm/README.md): unset, in this process, as `exec` does
anywhere, and `controller` runs `dvc repro` itself as a job there. `render` prints the script of a
job, `preflight` is what that does first, and `serve` what it runs beside a stage that samples from
a server.

`check` reads params.yaml, `verify` checks what is published, `compare` reviews a change, `bisect`
says where two runs part, `audit` judges a run made again, `seeds` records runs with other seeds,
`provenance` writes down for others' tools what was made from what, `claims` prints every number of
the pages with its source. `track` says whether a run is like the recorded ones, whose curves
`reference` makes. `use` switches params.yaml to a recipe, `plan` estimates what one needs.
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
from stages._contract.places import KEYS, TRACKS
from stages._contract.run import PARAMS, run_stage

if TYPE_CHECKING:
    from collections.abc import Callable

    Action = Callable[[argparse.Namespace, dict[str, str]], int]

# They say what is wrong themselves, or with R1_TRACEBACK leave it to Python.
_OUTSPOKEN = ("run", "exec", "controller")


def main(arguments: list[str]) -> int:
    """Runs the command and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stages", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_runners(commands)
    _add_readers(commands)
    options = parser.parse_args(arguments)
    do: Action = options.do
    try:
        cell = _cell_of(options) if hasattr(options, "section") else {}
        if options.command not in _OUTSPOKEN:
            return do(options, cell)
    except ValueError as error:
        print(f"rederive: {error}", file=sys.stderr)  # noqa: T201 - this is the message
        return 1
    return do(options, cell)


def _add(commands: Any, name: str, purpose: str, do: Action, **more: Any) -> Any:
    """Returns the parser of a command, which does that with the options and the stage's cell."""
    parser = commands.add_parser(name, help=purpose, **more)
    parser.set_defaults(do=do)
    return parser


def _add_runners(commands: Any) -> None:
    """Adds the commands that run stages, and those that their jobs need."""
    run = "run one stage where R1_SITE says; unset: here"
    _add_cell(_add(commands, "run", run, lambda options, cell: _run(options.stage, cell)), [])
    purpose = "run one stage in this process, whatever R1_SITE is"
    execute = _add(
        commands,
        "exec",
        purpose,
        lambda options, cell: run_stage(options.stage, cell, options.part),
    )
    _add_cell(execute, [])
    execute.add_argument("--part", type=_part, help="e.g. 2/8: do this share and publish nothing")
    purpose = "print the script that runs one stage, or controller, at the site R1_SITE"
    render = _add(commands, "render", purpose, lambda options, cell: _render(options.stage, cell))
    _add_cell(render, ["controller"])
    preflight = _add(commands, "preflight", "check that one stage can run on this node", _preflight)
    _add_cell(preflight, [])
    preflight.add_argument("--gpus", type=int, default=0, help="how many must be here")
    preflight.add_argument("--gpu-type", help="that they must be of")
    preflight.add_argument("--scratch-bytes", type=int, default=0, help="that must be free")
    preflight.add_argument(
        "--collective-timeout", type=float, default=0, help="seconds for an all-reduce; 0: none"
    )
    purpose = "serve a stage's model by vLLM, for a stage that samples from a server"
    serve = _add(
        commands,
        "serve",
        purpose,
        lambda options, cell: _serve(options.stage, cell, options.endpoint),
    )
    _add_cell(serve, [])
    serve.add_argument("--endpoint", type=Path, required=True, help="the file for its address")
    controller = _add(
        commands,
        "controller",
        "run dvc repro as a job of the site R1_SITE",
        lambda options, _: _control(options.dvc),
        prefix_chars="\0",  # what follows it is all DVC's, options too
        add_help=False,
    )
    controller.add_argument("dvc", nargs="*", help="arguments of dvc repro")


def _add_readers(commands: Any) -> None:
    """Adds the commands that are about recipes and results, and run no stage here."""
    purpose = "switch params.yaml to a recipe; no name: list them"
    use = _add(commands, "use", purpose, lambda options, _: _use(options.recipe))
    use.add_argument("recipe", nargs="?", help="a file of recipes/, without .yaml")
    purpose = "estimate memory and time of a recipe; runs nothing"
    plan = _add(
        commands,
        "plan",
        purpose,
        lambda options, _: _plan(options.recipe, is_capacity=options.capacity),
    )
    plan.add_argument("recipe", nargs="?", help="a file of recipes/; not given: params.yaml")
    plan.add_argument("--capacity", action="store_true", help="print docs/capacity.md instead")
    _add(commands, "check", "check params.yaml against the stages", lambda *_: _check())
    purpose = "check lock, scores, metrics and README; runs no model"
    _add(commands, "verify", purpose, lambda *_: _verify())
    purpose = "print what changed since a commit, as Markdown"
    compared = _add(commands, "compare", purpose, lambda options, _: _compare(options.revision))
    compared.add_argument("revision", help="a branch, a tag or a commit")
    purpose = "print the first difference between two runs"
    bisect = _add(commands, "bisect", purpose, lambda options, _: _bisect(options.a, options.b))
    for name in ("a", "b"):
        bisect.add_argument(name, help="a commit, or the folder of a clone")
    purpose = "compare a run made again with the recorded one"
    audit = _add(commands, "audit", purpose, lambda options, _: _audit(options.folder))
    audit.add_argument("folder", type=Path, help="the clone in which it was made")
    purpose = "run the recipe with other seeds; record the scores"
    seeds = _add(
        commands,
        "seeds",
        purpose,
        lambda options, _: _seeds(options.seed, is_tracks=options.tracks),
    )
    seeds.add_argument("seed", type=int, nargs="+")
    seeds.add_argument("--tracks", action="store_true", help="of the tracks; the core stays")
    _add_exports(commands)


def _add_exports(commands: Any) -> None:
    """Adds the commands that print or write what is recorded, for people and for other tools."""
    purpose = "print every number of the pages with its source"
    claims = _add(commands, "claims", purpose, lambda options, _: _claims(write=options.write))
    claims.add_argument("--write", action="store_true", help="first bring the pages up to date")
    purpose = "export attestations, SBOMs, Croissant, crate"
    provenance = _add(
        commands, "provenance", purpose, lambda options, _: _provenance(options.out, options.key)
    )
    provenance.add_argument("out", type=Path, help="the folder to write")
    provenance.add_argument("--key", type=Path, help="a private key in PEM, to sign with")
    purpose = "print a run's curves beside those of recorded runs"
    track = _add(commands, "track", purpose, lambda options, cell: _track(options.stage, cell))
    _add_cell(track, [], is_optional=True)
    purpose = "compare the curves of recorded runs"
    reference = _add(
        commands, "reference", purpose, lambda options, _: _reference(write=options.write)
    )
    reference.add_argument("--write", action="store_true", help="make them from the logs")
    purpose = "send recorded artifacts to the hub or a remote"
    publish = _add(commands, "publish", purpose, lambda options, _: _publish(options))
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
    purpose = "write the report as one HTML page; runs no model"
    page = _add(commands, "page", purpose, lambda options, _: _page(options.out, options.since))
    page.add_argument("--out", type=Path, default=Path("report.html"), help="the file to write")
    page.add_argument("--since", default="HEAD", help="a commit: show what has run again since")


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
    return {key: getattr(options, key) for key in KEYS if getattr(options, key)}


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
    from stages._audit.bisect import find_first_difference, open_run  # noqa: PLC0415 - as above

    runs = [open_run(Path(), name) for name in (a, b)]
    difference = find_first_difference(*runs)
    print(difference or f"no difference in the outputs of {len(runs[0].lock)} stages")  # noqa: T201
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
