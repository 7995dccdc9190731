"""Runs a stage's cell where R1_SITE says: what `python -m stages run` does at other sites."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from stages._contract import params
from stages._contract.run import PARAMS, run_stage
from stages._launch.apptainer import find_image, replace_process
from stages._launch.deps import hash_deps, key_of
from stages._launch.render import JOBS, PARTS, arguments_of, name_of, render, render_controller
from stages._launch.resources import CONTROLLER, load_resources, load_server
from stages._launch.result import take_result
from stages._launch.site import ApptainerSite, LocalSite, SlurmSite, load_site
from stages._launch.steps import Step, find, forget, run_steps
from stages._launch.watch import LeftError, noted_signals

if TYPE_CHECKING:
    from collections.abc import Callable

_LEFT = 75  # EX_TEMPFAIL: DVC takes it for a failure, and ends


def launch(stage: str, cell: dict[str, str]) -> int:
    """Runs the stage's cell at the site of R1_SITE, and returns the exit status.

    The status is the stage's own; 130 or 143 after Ctrl-C or SIGTERM, which cancel a job; 1, with
    one line on stderr, if it could not run or its result must not be used.
    """
    return _explained(stage, lambda: _launch(stage, cell))


def launch_controller(arguments: list[str]) -> int:
    """Runs `dvc repro` with the arguments as a job of the site R1_SITE; returns its exit status.

    The job submits those of the stages, and goes on when nobody watches it any more.
    """
    return _explained(CONTROLLER, lambda: _launch_controller(arguments))


def render_job(stage: str, cell: dict[str, str]) -> str:
    """Returns the script that `launch` would submit; of an array, and then of the job after it.

    Raises:
        ValueError: R1_SITE names no site of kind slurm, or a value of its file is wrong.
    """
    site = _load_slurm(stage)
    if stage == CONTROLLER:
        return _render_controller([], site)
    return "\n".join(script for script, _ in _render_steps(stage, cell, site))


def _explained(name: str, action: Callable[[], int]) -> int:
    """Returns the action's status, or that of its error, of which it prints a line."""
    try:
        return action()
    except KeyboardInterrupt:  # while files were hashed: a job notes its signals
        message, status = "interrupted", 130
    except LeftError:
        message, status = "the controller begins again, and looks for this stage's job then", _LEFT
    except (ValueError, FileNotFoundError) as error:
        if os.environ.get("R1_TRACEBACK"):
            raise
        message, status = str(error), 1
    print(f"rederive: {name}: {message}", file=sys.stderr)  # noqa: T201 - this is the message
    return status


def _launch(stage: str, cell: dict[str, str]) -> int:
    site = load_site(os.environ.get("R1_SITE") or "local")
    if isinstance(site, LocalSite):
        return run_stage(stage, cell)
    name_of(stage, cell)
    image = params.load_cell(PARAMS, stage, cell).image  # here, and not after hours in a queue
    if isinstance(site, ApptainerSite):
        found = find_image(site.images, image)
        return replace_process(site, found, ["exec", *arguments_of(stage, cell)])
    return _run_jobs(stage, cell, site)


def _load_slurm(stage: str) -> SlurmSite:
    name = os.environ.get("R1_SITE") or "local"
    site = load_site(name)
    if not isinstance(site, SlurmSite):
        raise ValueError(  # noqa: TRY004 - the user's value, not an argument's type
            f"the site {name} is of kind {site.kind}, which has no scripts: set R1_SITE, e.g. "
            f"R1_SITE=example python -m stages render {stage}"
        )
    return site


def _render_steps(stage: str, cell: dict[str, str], site: SlurmSite) -> list[tuple[str, int]]:
    """Returns scripts of jobs that do the cell one after the other, with their numbers of tasks.

    0 is a job that is no array.
    """
    needs = load_resources(stage, cell)
    values = params.load_cell(PARAMS, stage, cell)
    image = find_image(site.images, values.image) if site.images else None
    if needs.array == 1:
        return [(render(stage, cell, site, needs, image, load_server(stage, needs, cell)), 0)]
    array = render(stage, cell, site, needs, image)
    gathers = render(stage, cell, site, replace(needs, array=1), image)
    return [(array, needs.array), (gathers, 0)]


def _run_jobs(stage: str, cell: dict[str, str], site: SlurmSite) -> int:
    scripts = _render_steps(stage, cell, site)
    name = name_of(stage, cell)
    folder = JOBS / name
    digests = hash_deps(stage, cell)
    assert site.work_dir, "load_site has filled it in"
    key = key_of(stage, cell, digests, site.work_dir)
    steps = [
        Step(
            name=name,
            folder=folder / PARTS if num_tasks else folder,
            script=script,
            key=f"{key}-{num_tasks}" if num_tasks else key,
            num_tasks=num_tasks,
            keeps=True,
        )
        for script, num_tasks in scripts
    ]
    if len(steps) == 1:  # an array of the same stage, before its needs were changed
        find(replace(steps[0], folder=folder / PARTS, key=""))
    with noted_signals() as signals:
        status, job_id = run_steps(steps, site, signals)
    if status:
        return status
    take_result(stage, cell, digests, job_id, folder / f"{job_id}.kept")
    forget(steps[:-1])
    return 0


def _render_controller(arguments: list[str], site: SlurmSite) -> str:
    needs = load_resources(CONTROLLER)
    # Not in an image, which has no Slurm.
    host = replace(site, python=sys.executable, images=None) if site.images else site
    return render_controller(arguments, os.environ["R1_SITE"], host, needs)


def _launch_controller(arguments: list[str]) -> int:
    site = _load_slurm(CONTROLLER)
    assert site.work_dir, "load_site has filled it in"
    step = Step(
        name=CONTROLLER,
        folder=JOBS / CONTROLLER,
        script=_render_controller(arguments, site),
        key=key_of(CONTROLLER, {}, {"arguments": repr(arguments)}, site.work_dir),
        num_tasks=0,
        keeps=False,
    )
    with noted_signals() as signals:
        status, _ = run_steps([step], site, signals)
    return status
