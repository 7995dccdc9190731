"""Scripts of jobs, to the letter: a change of a template or of a site's meaning shows up.

To renew the files after a change that is meant: `python -m tests.golden.slurm.test_slurm_golden`.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from stages._launch.apptainer import Image
from stages._launch.render import render, render_controller
from stages._launch.resources import Resources, load_resources
from stages._launch.site import SlurmSite, load_site

FOLDER = Path(__file__).parent
H100 = Resources(
    array=1, nodes=1, gpus_per_node=8, cpus_per_task=96, mem="1500G", time="2-00:00:00"
)
IMAGE = Image(path="/shared/images/train.sif", sha256="5e" * 32, lock="containers/train.lock.yaml")


def render_all() -> dict[str, str]:
    """Returns the golden scripts by the name of their file."""
    site = load_site("example")
    assert isinstance(site, SlurmSite)
    # What depends on the machine.
    site = replace(site, python="/shared/rederive/.venv/bin/python", work_dir="/shared/rederive")
    full = replace(
        site,
        account="r1",
        qos="high",
        gpu_flag="gpus_per_node",
        options=["--constraint=nvlink&ib", "--mail-type=END"],
        setup=["source /etc/profile.d/lmod.sh"],
        modules=["cuda/13.0", "apptainer"],
        environment={"NCCL_SOCKET_IFNAME": "ib0", "NCCL_DEBUG": "WARN"},
        scratch="/nvme/of users",
    )
    in_image = replace(
        full,
        images="/shared/images",
        python="python3",
        binds=["/shared/data:/data:ro", "/shared/cache"],
    )
    cell = {"model": "sft", "task": "arithmetic"}
    return {
        "example-grpo.sh": render("grpo", {}, site, load_resources("grpo"), None),
        "example-evaluate.sh": render("evaluate", cell, site, load_resources("evaluate"), None),
        "h100-grpo.sh": render("grpo", {}, full, H100, None),
        "h100-image-evaluate.sh": render("evaluate", cell, in_image, H100, IMAGE),
        "h100-array-generate.sh": render("generate", {}, full, replace(H100, array=32), None),
        "h100-array-evaluate.sh": render(
            "evaluate", cell, in_image, replace(H100, array=4, gpus_per_node=1), IMAGE
        ),
        "example-controller.sh": render_controller(
            ["--keep-going", "grpo"], "example", site, load_resources("controller")
        ),
        "h100-nodes-grpo.sh": render("grpo", {}, full, replace(H100, nodes=4), None),
        "h100-server-grpo.sh": render(
            "grpo", {}, replace(in_image, staging="/nvme/r1"), replace(H100, nodes=4), IMAGE, H100
        ),
        "no-requeue-filter.sh": render(
            "filter",
            {},
            replace(site, scratch=None, max_requeues=0, signal_before_end_s=0, partition=None),
            load_resources("filter"),
            None,
        ),
    }


@pytest.mark.parametrize("name", sorted(render_all()))
def test_script_is_the_golden_file(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == render_all()[name]


def test_there_is_no_other_golden_file() -> None:
    assert {path.name for path in FOLDER.glob("*.sh")} == render_all().keys()


@pytest.mark.parametrize("name", sorted(render_all()))
def test_script_passes_shellcheck(name: str) -> None:
    command = shutil.which("shellcheck")
    if command is None:
        pytest.skip("shellcheck not found: run .ci/install-packages as root")
    # SC1091: what a site's own lines read is not here.
    call = [command, "--exclude=SC1091", str(FOLDER / name)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


if __name__ == "__main__":
    for file, text in render_all().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
