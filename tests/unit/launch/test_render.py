"""No value of a site or a cell becomes shell: hostile ones are rendered, and the script is run."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from stages._launch.apptainer import Image
from stages._launch.render import render, render_controller
from stages._launch.resources import Resources
from stages._launch.site import SlurmSite, load_site

NEEDS = Resources(array=1, nodes=1, gpus_per_node=2, cpus_per_task=4, mem="8G", time="01:00:00")
# Each would leave a file `pwned` if a shell ever read it as shell.
HOSTILE = "a b;touch pwned|touch pwned&touch pwned\\$(touch pwned)`touch pwned`\"'#*${HOME}~\u00e9"
# Slurm's own lines take no quotes and no backslashes.
FOR_SLURM = "a b;touch pwned|touch pwned&$(touch pwned)`touch pwned`#*${HOME}~\u00e9"


@pytest.fixture
def site(tmp_path: Path) -> SlurmSite:
    """Returns a site with hostile values throughout; its python and image are scripts."""
    site = load_site("example")
    assert isinstance(site, SlurmSite)
    work_dir = tmp_path / FOR_SLURM
    work_dir.mkdir()
    (work_dir / "work/jobs/grpo").mkdir(parents=True)
    return replace(
        site,
        partition=FOR_SLURM,
        account="--qos=x;touch pwned",
        qos="$(touch pwned)",
        gpu_type="h100$(touch pwned)",
        options=[f"--comment={FOR_SLURM}"],
        environment={"HOSTILE": HOSTILE, "OTHER": "-n"},
        python=str(tmp_path / HOSTILE / "python"),
        work_dir=str(work_dir),
        scratch=str(tmp_path / "scratch" / HOSTILE),
    )


def write_program(path: Path, body: str) -> None:
    """Writes a program in shell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


def run(site: SlurmSite, script: str, programs: Path, name: str = "grpo") -> str:
    """Returns what the script prints when bash runs it as Slurm would."""
    assert site.work_dir
    path = f"{programs}:/usr/bin:/bin"
    env = {"PATH": path, "SLURM_JOB_ID": "7", "HOME": "/", "SLURM_JOB_NODELIST": "n1"}
    env |= {"SLURM_NODEID": "0", "SLURM_JOB_NUM_NODES": "2", "CUDA_VISIBLE_DEVICES": "0,1"}
    checked = subprocess.run(["bash", "-n"], input=script, text=True, check=False)
    assert checked.returncode == 0
    done = subprocess.run(
        ["bash", "-s"],
        input=script,
        cwd=site.work_dir,
        env=env,
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    status = Path(site.work_dir, f"work/jobs/{name}/7.0.status")
    assert status.read_text(encoding="utf-8") == "0\n"
    return done.stdout


SHOW = 'printf "%s\\n" "$HOSTILE" "$TMPDIR" "$PWD" "$0" "$@" END'


@pytest.mark.parametrize("num_nodes", [1, 2])
def test_hostile_values_arrive_as_they_are_and_run_nothing(
    site: SlurmSite, tmp_path: Path, num_nodes: int
) -> None:
    assert site.python
    programs = tmp_path / "programs"
    write_program(Path(site.python), SHOW)
    write_program(programs / "srun", 'exec "${@: -3}"')  # as srun does on a node
    write_program(programs / "scontrol", "echo n1")
    shown = run(site, render("grpo", {}, site, replace(NEEDS, nodes=num_nodes), None), programs)
    calls = [call.split("\n")[:-1] for call in shown.split("END\n")[:-1]]
    checks = ["preflight", "grpo", "--gpus", "2", "--gpu-type", "h100$(touch pwned)"]
    checks += ["--scratch-bytes", "10000000000", "--collective-timeout", "60.0"]
    assert [call[4:] for call in calls] == [
        ["-m", "stages", *checks],
        ["-m", "stages", "exec", "grpo"],
    ]
    for hostile, scratch, work_dir, python, *_ in calls:
        assert (hostile, work_dir, python) == (HOSTILE, site.work_dir, site.python)
        assert scratch.startswith(f"{site.scratch}/rederive-7-")
        assert not Path(scratch).exists()
    assert list(tmp_path.rglob("pwned*")) == []


def test_hostile_arguments_of_the_controller_reach_dvc_as_they_are(
    site: SlurmSite, tmp_path: Path
) -> None:
    assert site.python
    assert site.work_dir
    programs = tmp_path / "programs"
    write_program(Path(site.python), SHOW)
    write_program(programs / "sbatch", "touch pwned")
    Path(site.work_dir, "work/jobs/controller").mkdir()
    words = [HOSTILE, "-a", "#SBATCH --b"]
    script = render_controller(words, HOSTILE, site, NEEDS)
    (call,) = run(site, script, programs, "controller").split("END\n")[:-1]
    assert call.split("\n")[4:-1] == ["-m", "dvc", "repro", *words]
    assert "a\ntouch pwned" not in render_controller(["a\ntouch pwned"], "x", site, NEEDS)[:200]
    assert list(tmp_path.rglob("pwned*")) == []


def test_hostile_values_reach_an_image_as_they_are(site: SlurmSite, tmp_path: Path) -> None:
    image = tmp_path / f"{HOSTILE}.sif"
    image.write_text("x", encoding="utf-8")
    sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    inside = replace(
        site,
        images=str(tmp_path),
        python=HOSTILE,
        binds=[f"/data{HOSTILE}:/data:ro"],
        apptainer=str(tmp_path / HOSTILE / "apptainer"),
    )
    show = 'printf "%s\\n" "$APPTAINERENV_HOSTILE" "$APPTAINERENV_CUDA_VISIBLE_DEVICES" "$@" END'
    write_program(Path(inside.apptainer), show)
    found = Image(path=str(image), sha256=sha256, lock=HOSTILE)
    shown = run(inside, render("grpo", {}, inside, NEEDS, found), tmp_path / "programs")
    _, stage = [call.split("\n")[:-1] for call in shown.split("END\n")[:-1]]
    assert stage[:2] == [HOSTILE, "0,1"]
    assert stage[2:5] == ["exec", "--containall", "--nv"]
    assert stage[7:] == [
        "--pwd",
        site.work_dir,
        "--bind",
        site.work_dir,
        "--bind",
        f"/data{HOSTILE}:/data:ro",
        str(image),
        HOSTILE,
        *("-m", "stages", "exec", "grpo"),
    ]
    assert list(tmp_path.rglob("pwned*")) == []


def test_image_with_another_digest_is_refused_before_anything_runs(
    site: SlurmSite, tmp_path: Path
) -> None:
    image = tmp_path / "x.sif"
    image.write_text("x", encoding="utf-8")
    inside = replace(
        site,
        images=str(tmp_path),
        python="python3",
        apptainer=str(tmp_path / "apptainer"),
    )
    write_program(tmp_path / "apptainer", "touch pwned")
    found = Image(path=str(image), sha256="0" * 64, lock="containers/x.lock.yaml")
    script = render("grpo", {}, inside, NEEDS, found)
    env = {"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n3"}
    done = subprocess.run(
        ["bash", "-s"], input=script, env=env, text=True, capture_output=True, check=False
    )
    said = (
        f"the image {image} has not the sha256 of containers/x.lock.yaml: copy it again (node n3)"
    )
    assert (done.returncode, done.stderr) == (1, f"rederive: grpo: {said}\n")
    assert list(tmp_path.rglob("pwned*")) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partition": "a'b"}, 'partition: "--partition=a\'b" holds a quote'),
        ({"account": 'a"b'}, "account: "),
        ({"qos": "a\nb"}, "qos holds a control character in 'a\\nb'"),
        ({"options": ["--comment=a\\b"]}, "options: '--comment=a\\\\b' holds a quote, a backslash"),
        ({"options": ["touch pwned"]}, "options: 'touch pwned' must begin with -"),
        ({"options": ["--a\n#SBATCH --b"]}, "options holds a control character"),
        ({"work_dir": "/a\u2028b"}, "work_dir holds a control character"),
        ({"work_dir": "/a%jb"}, "work_dir: '/a%jb' holds a %, which Slurm replaces"),
        ({"job_name_prefix": "a b"}, "job_name_prefix may hold letters, digits"),
        ({"setup": ["true\nfalse"]}, "setup holds a control character"),
        ({"environment": {"A=$(x)": "b"}}, "environment: 'A=$(x)' is no name of"),
        ({"environment": {"A": "a\nb"}}, "environment holds a control character"),
        ({"signal_before_end_s": 3600}, "signal_before_end_s is 3600, and grpo has 01:00:00"),
    ],
)
def test_what_cannot_be_written_is_an_error_that_names_the_key(
    site: SlurmSite, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=".") as error:
        render("grpo", {}, replace(site, **changes), NEEDS, None)  # type: ignore[arg-type]
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["../x", "a b", "$(touch pwned)", "", "a\n", "-x"])
def test_cell_is_a_part_of_a_file_name(site: SlurmSite, value: str) -> None:
    with pytest.raises(ValueError, match="--task may hold letters, digits"):
        render("evaluate", {"model": "sft", "task": value}, site, NEEDS, None)


def test_every_gpu_flag_asks_for_the_gpus_in_its_own_way(site: SlurmSite) -> None:
    def asked(flag: str, kind: str | None) -> list[str]:
        changed = replace(site, gpu_flag=flag, gpu_type=kind)  # type: ignore[arg-type]
        lines = render("grpo", {}, changed, NEEDS, None).splitlines()
        return [line for line in lines if line.startswith("#SBATCH --gpu") or "--gres" in line]

    assert asked("gres", "h100") == ["#SBATCH --gres=gpu:h100:2"]
    assert asked("gres", None) == ["#SBATCH --gres=gpu:2"]
    assert asked("gpus_per_node", "h100") == ["#SBATCH --gpus-per-node=h100:2"]
    assert asked("none", "h100") == []


def test_rendering_reads_no_environment(site: SlurmSite, monkeypatch: pytest.MonkeyPatch) -> None:
    before = render("grpo", {}, site, NEEDS, None)
    for name in list(os.environ):
        monkeypatch.delenv(name)
    assert render("grpo", {}, site, NEEDS, None) == before
