"""The text of a job's script: a function of the stage, its cell, params.yaml, site and needs.

What Slurm reads (#SBATCH lines) and what the shell reads (everything else) are quoted differently:
`sbatch` and `q` are the filters, and no value comes into a script without one of them.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stages._contract import params, places
from stages._contract.run import PARAMS
from stages._launch.resources import CONTROLLER

if TYPE_CHECKING:
    from stages._launch.apptainer import Image
    from stages._launch.resources import Resources
    from stages._launch.site import SlurmSite

TEMPLATES = Path(__file__).parents[2] / "slurm"
JOBS = Path("work/jobs")
PARTS = "parts"  # the folder of an array's record and logs, in that of its stage
_ALWAYS = 1_000_000
_CELL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PLAIN = re.compile(r"[A-Za-z0-9_.,:=@%+/*&|!\[\]-]+")
# Slurm has escapes of its own within quotes, and they have changed between versions.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029'\"\\]")


def name_of(stage: str, cell: dict[str, str]) -> str:
    """Returns the name of the stage's cell, as manifests have it.

    Raises:
        ValueError: a value of the cell cannot be part of a file's name.
    """
    for key, value in cell.items():
        if not _CELL.fullmatch(value):
            raise ValueError(
                f"--{key} may hold letters, digits, '.', '_' and '-', not {value!r}: name one "
                f"that dvc.yaml has"
            )
    return places.name_of(stage, cell)


def arguments_of(stage: str, cell: dict[str, str]) -> list[str]:
    """Returns the arguments of `python -m stages exec` that mean this cell."""
    return [stage, *(word for key, value in cell.items() for word in (f"--{key}", value))]


def list_outputs(stage: str, cell: dict[str, str]) -> list[Path]:
    """Returns the folder and the metrics' files that the cell writes."""
    values = params.load_cell(PARAMS, stage, cell)
    return [places.out_of(stage, cell), *places.metrics_of(stage, values, cell).values()]


def render(
    stage: str,
    cell: dict[str, str],
    site: SlurmSite,
    resources: Resources,
    image: Image | None,
    server: Resources | None = None,
) -> str:
    """Returns the script that runs the stage's cell on the site.

    With several tasks, it is an array's, each of which does a part.

    Args:
        stage: its name.
        cell: its cell.
        site: where it runs.
        resources: what it needs.
        image: in which it runs; None: in the site's python.
        server: what the vLLM server beside it needs; None: there is none.

    Raises:
        ValueError: a value cannot be written for Slurm, or the time is shorter than the warning
            before its end; names the key.
    """
    name = name_of(stage, cell)
    is_array = resources.array > 1
    folder = JOBS / name / PARTS if is_array else JOBS / name
    outputs = [] if is_array else list_outputs(stage, cell)
    kind = "single_node" if resources.nodes == 1 else "multi_node"
    return _fill_in(
        "array" if is_array else kind,
        stage,
        site,
        resources,
        name=name,
        jobs=folder.as_posix(),
        outputs=[path.as_posix() for path in outputs],
        arguments=arguments_of(stage, cell),
        image=image,
        server=server,
        max_requeues=site.max_requeues,
    )


def render_controller(
    arguments: list[str], site_name: str, site: SlurmSite, resources: Resources
) -> str:
    """Returns the script that runs `dvc repro` with the arguments on the site.

    Raises:
        ValueError: as `render`.
    """
    return _fill_in(
        "controller",
        CONTROLLER,
        site,
        resources,
        name=CONTROLLER,
        jobs=(JOBS / CONTROLLER).as_posix(),
        outputs=[],
        arguments=arguments,
        image=None,
        server=None,
        site_name=site_name,
        # Each start goes on where the one before was: only the site can say never.
        max_requeues=_ALWAYS if site.max_requeues else 0,
    )


def _fill_in(
    template: str, stage: str, site: SlurmSite, resources: Resources, **values: Any
) -> str:
    if site.signal_before_end_s >= resources.time_s:
        raise ValueError(
            f"signal_before_end_s is {site.signal_before_end_s}, and {stage} has {resources.time} "
            f"in all: lower the one in the site's file, or raise the other in slurm/resources.yaml"
        )
    if "%" in str(site.work_dir):
        raise ValueError(
            f"work_dir: {site.work_dir!r} holds a %, which Slurm replaces in the log's path: move "
            f"the repository"
        )
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - a shell's script, whose values are quoted by `q`
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"q": shlex.quote, "sbatch": _quote_for_slurm}
    return environment.get_template(f"{template}.sbatch.j2").render(
        **values,
        site=site,
        resources=asdict(resources),
        options=_list_options(values["name"], values["jobs"], site, resources),
        server_options=_list_options(f"{values['name']}-server", values["jobs"], site, server)
        if (server := values["server"])
        else [],
    )


def _list_options(
    name: str, jobs: str, site: SlurmSite, resources: Resources
) -> list[tuple[str, str]]:
    """Returns sbatch's options, each with the key that it comes from."""
    job = "%A_%a" if resources.array > 1 else "%j"
    found = [
        ("job_name_prefix", f"--job-name={site.job_name_prefix}{name}"),
        ("work_dir", f"--chdir={site.work_dir}"),
        ("output", f"--output={jobs}/{job}.log"),
        ("output", "--open-mode=append"),  # what was said before a requeue stays
        ("requeue", "--requeue" if site.max_requeues else "--no-requeue"),
    ]
    if resources.array > 1:
        found.append(("array", f"--array=1-{resources.array}"))
    for key in ("partition", "account", "qos"):
        value = getattr(site, key)
        if value is not None:
            found.append((key, f"--{key}={value}"))
    found += [
        ("nodes", f"--nodes={resources.nodes}"),
        ("nodes", "--ntasks-per-node=1"),
        ("cpus_per_task", f"--cpus-per-task={resources.cpus_per_task}"),
        ("mem", f"--mem={resources.mem}"),
        ("time", f"--time={resources.time}"),
    ]
    if resources.gpus_per_node and site.gpu_flag != "none":
        kind = f"{site.gpu_type}:" if site.gpu_type else ""
        flag = "gres=gpu:" if site.gpu_flag == "gres" else "gpus-per-node="
        found.append(("gpu_type", f"--{flag}{kind}{resources.gpus_per_node}"))
    if site.signal_before_end_s:
        found.append(("signal_before_end_s", f"--signal=B:USR1@{site.signal_before_end_s}"))
    return found + [("options", option) for option in site.options]


def _quote_for_slurm(value: str, key: str) -> str:
    """Returns the text as sbatch reads it from a #SBATCH line.

    Raises:
        ValueError: it cannot be written there; names the key.
    """
    if _UNSAFE.search(value):
        raise ValueError(
            f"{key}: {value!r} holds a quote, a backslash or a control character, which sbatch "
            f"does not read from a script: choose another value"
        )
    return value if _PLAIN.fullmatch(value) else f"'{value}'"
