"""The command line: dvc.yaml calls `python -m stages run STAGE`.

`check` reads params.yaml; `verify` checks what is published; `compare` reviews a change.
"""

from __future__ import annotations

import argparse
import atexit
import os
import sys
from pathlib import Path

from stages._contract import params
from stages._contract.run import PARAMS, run_stage


def main(arguments: list[str]) -> int:
    """Runs the command and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stages", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run one stage in this environment")
    run.add_argument("stage", choices=params.stage_names())
    run.add_argument("--model", help="evaluate only: which model")
    run.add_argument("--task", help="evaluate only: which task")
    commands.add_parser("check", help="check params.yaml against the stages")
    commands.add_parser("verify", help="check lock, scores, metrics and README; runs no model")
    compared = commands.add_parser("compare", help="print what changed since a commit, as Markdown")
    compared.add_argument("revision", help="a branch, a tag or a commit")
    options = parser.parse_args(arguments)
    if options.command == "run":
        cell = {key: getattr(options, key) for key in ("model", "task") if getattr(options, key)}
        return run_stage(options.stage, cell)
    try:
        if options.command == "compare":
            return _compare(options.revision)
        return _verify() if options.command == "verify" else _check()
    except ValueError as error:
        print(f"rederive: {error}", file=sys.stderr)  # noqa: T201 - this is the message
        return 1


def _check() -> int:
    sections = params.load_all(PARAMS)
    print(f"{PARAMS}: {len(sections)} sections are in order")  # noqa: T201
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
