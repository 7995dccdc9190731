"""The command line: dvc.yaml calls `python -m stages run STAGE`; `check` reads params.yaml."""

from __future__ import annotations

import argparse
import sys

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
    options = parser.parse_args(arguments)
    if options.command == "check":
        return _check()
    cell = {key: getattr(options, key) for key in ("model", "task") if getattr(options, key)}
    return run_stage(options.stage, cell)


def _check() -> int:
    try:
        sections = params.load_all(PARAMS)
    except ValueError as error:
        print(f"rederive: {error}", file=sys.stderr)  # noqa: T201 - this is the message
        return 1
    print(f"{PARAMS}: {len(sections)} sections are in order")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
