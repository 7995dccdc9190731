"""What a job's script does with signals and statuses: bash runs it, and Slurm's commands are noted.

tests/slurm has the same with Slurm itself, where it is installed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from stages._contract.artifacts import sha256_file
from stages._launch.apptainer import Image
from stages._launch.render import render, render_controller
from stages._launch.resources import Resources
from stages._launch.site import SlurmSite, load_site

NEEDS = Resources(array=1, nodes=1, gpus_per_node=0, cpus_per_task=1, mem="1G", time="01:00:00")
# A stage that ends at SIGTERM as the real ones do, and notes each one.
WAITS = """\
[ "$3" = preflight ] && exit 0
trap 'echo terminated; exit 143' TERM
echo begun
for _ in {1..300}; do sleep 0.1; done
"""
GOES_WHEN_TOLD = '[ -e go ] && [ -n "$ending" ] && exit 143; sleep 0.1'


class Script:
    """A script of the folder, which is the repository, and what bash makes of it."""

    def __init__(
        self,
        folder: Path,
        stage: str,
        name: str = "filter",
        server: Resources | None = None,
        **changes: object,
    ) -> None:
        """Renders the script for a stage in shell, on the example's site with changes."""
        self.folder = folder
        self.results = folder / "work/jobs" / name
        self.results.mkdir(parents=True)
        (folder / "bin").mkdir()
        (folder / "scratch").mkdir()
        self.write_program("python", stage)
        self.write_program("scontrol", 'echo "scontrol $*"')
        site = load_site("example")
        assert isinstance(site, SlurmSite)
        site = replace(
            site,
            python=str(folder / "bin/python"),
            work_dir=str(folder),
            scratch=str(folder / "scratch"),
            environment={},
        )
        changed = replace(site, **changes)  # type: ignore[arg-type]
        if name == "controller":
            self.text = render_controller(["a stage"], "here", changed, NEEDS)
        else:
            self.text = render("filter", {}, changed, NEEDS, None, server)

    def write_program(self, name: str, body: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def start(self, restarts: int = 0) -> subprocess.Popen[bytes]:
        """Starts bash as Slurm would; what it prints is in the file `log`."""
        (self.folder / "script.sh").write_text(self.text, encoding="utf-8")
        env = {"PATH": f"{self.folder}/bin:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
        env |= {"SLURM_JOB_ID_HET_GROUP_1": "8", "SLURM_JOB_NODELIST_HET_GROUP_1": "n2"}
        if restarts:
            env["SLURM_RESTART_COUNT"] = str(restarts)
        with (self.folder / "log").open("wb") as log:
            command = ["bash", str(self.folder / "script.sh")]
            return subprocess.Popen(
                command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 30
        while text not in self.log():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    def statuses(self) -> dict[str, str]:
        """Returns what is in the files of the job's status."""
        assert list((self.folder / "scratch").iterdir()) == []
        files = sorted(self.results.iterdir())
        return {path.name: path.read_text(encoding="utf-8") for path in files}


def test_status_is_the_stages(tmp_path: Path) -> None:
    script = Script(tmp_path, '[ "$3" = preflight ] || exit 9')
    assert script.start().wait(timeout=30) == 9
    assert script.statuses() == {"7.0.status": "9\n"}
    assert script.log() == ""


def test_failed_check_ends_the_job_before_the_stage(tmp_path: Path) -> None:
    script = Script(tmp_path, 'echo "$3"; [ "$3" = exec ]')
    assert script.start().wait(timeout=30) == 1
    assert (script.log(), script.statuses()) == ("preflight\n", {"7.0.status": "1\n"})


def test_missing_python_names_it(tmp_path: Path) -> None:
    script = Script(tmp_path, "", python="/nowhere/python")
    assert script.start().wait(timeout=30) == 1
    assert script.log() == (
        "rederive: filter: there is no /nowhere/python: set python in the site's file to one that "
        "nodes see (node unknown)\n"
    )
    assert script.statuses() == {"7.0.status": "1\n"}


def test_warning_ends_the_stage_once_and_queues_the_job_again(tmp_path: Path) -> None:
    body = WAITS.replace("exit 143", "ending=1").replace("sleep 0.1", GOES_WHEN_TOLD)
    script = Script(tmp_path, body)
    process = script.start(restarts=2)
    script.wait_for("begun")
    for _ in range(3):
        process.send_signal(signal.SIGUSR1)
        script.wait_for("terminated")
        time.sleep(0.2)
    (tmp_path / "go").touch()
    assert process.wait(timeout=30) == 143
    assert script.log().splitlines() == [
        "begun",
        "terminated",
        "rederive: filter: stopped before its time limit, and queued again",
        "scontrol requeue 7",
    ]
    assert script.statuses() == {}, "the launcher would take the job for ended"


def test_last_warning_ends_the_job(tmp_path: Path) -> None:
    script = Script(tmp_path, WAITS)
    process = script.start(restarts=3)
    script.wait_for("begun")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=30) == 143
    assert script.log().splitlines()[2:] == [
        (
            "rederive: filter: stopped before its time limit, and max_requeues is 3: raise time in "
            "slurm/resources.yaml"
        )
    ]
    assert script.statuses() == {"7.3.status": "143\n"}


def test_job_that_cannot_be_queued_again_ends(tmp_path: Path) -> None:
    script = Script(tmp_path, WAITS)
    script.write_program("scontrol", "exit 1")
    process = script.start()
    script.wait_for("begun")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=30) == 143
    assert "rederive: filter: it could not be queued again" in script.log()
    assert script.statuses() == {"7.0.status": "143\n"}


@pytest.mark.parametrize("status", [0, 1])
def test_stage_that_ends_by_itself_after_the_warning_keeps_its_status(
    tmp_path: Path, status: int
) -> None:
    body = WAITS.replace("echo terminated; exit 143", f"echo finished; exit {status}")
    script = Script(tmp_path, body)
    process = script.start()
    script.wait_for("begun")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=30) == status
    assert script.log() == "begun\nfinished\n"
    assert script.statuses() == {"7.0.status": f"{status}\n"}


def test_warning_before_the_stage_begins_does_not_begin_it(tmp_path: Path) -> None:
    script = Script(tmp_path, 'trap "" TERM; echo "$3"; sleep 1')
    process = script.start()
    script.wait_for("preflight")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=30) == 143
    assert "exec" not in script.log()
    assert script.log().endswith("scontrol requeue 7\n")


def test_cancelling_waits_for_the_stage_and_queues_nothing(tmp_path: Path) -> None:
    """Slurm sends SIGTERM to the script and to what it has started."""
    script = Script(tmp_path, 'echo "$$" >pid\n' + WAITS)
    process = script.start()
    script.wait_for("begun")
    process.send_signal(signal.SIGTERM)
    os.kill(int((tmp_path / "pid").read_text(encoding="utf-8")), signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    assert script.log() == "begun\nterminated\n"
    assert script.statuses() == {"7.0.status": "143\n"}


def test_status_of_a_stage_that_ends_as_slurm_ends_the_script_is_not_lost(tmp_path: Path) -> None:
    """Slurm signals all processes of a job at once, and bash 5.2 then may not know the status."""
    body = WAITS.replace("exit 143", "exit 7").replace("for _ in {1..300}; do sleep", "while sleep")
    script = Script(tmp_path, body.replace("0.1; done", "0.01; do :; done"))
    found = []
    for _ in range(20):
        process = script.start()
        script.wait_for("begun")
        os.killpg(process.pid, signal.SIGTERM)
        found.append(process.wait(timeout=30))
    assert found == [7] * 20
    assert script.statuses() == {"7.0.status": "7\n"}


def test_setup_modules_and_environment_come_in_this_order(tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        '[ "$3" = preflight ] || echo "B is $B"',
        setup=['module() { echo module "$@"; export B=module; }'],
        modules=["cuda/13.0"],
        environment={"B": "the site's"},
    )
    assert script.start().wait(timeout=30) == 0
    assert script.log() == "module load cuda/13.0\nB is the site's\n"


def test_module_that_fails_is_named(tmp_path: Path) -> None:
    script = Script(tmp_path, "echo never", setup=["module() { false; }"], modules=["cuda"])
    assert script.start().wait(timeout=30) == 1
    assert script.log() == (
        "rederive: filter: the module cuda of the site's file cannot be loaded (node unknown)\n"
    )


# DVC whose stage's launcher reads what the controller asks, and fails then.
CONTROLLED = """\
echo "begun $R1_SITE $*"
for _ in {1..300}; do
    sleep 0.1
    [ ! -e "$R1_CONTROLLER_STOP" ] || { echo "heard $(cat "$R1_CONTROLLER_STOP")"; exit 255; }
done
"""


def test_controller_that_is_warned_lets_the_stages_job_go_on_and_begins_again(
    tmp_path: Path,
) -> None:
    script = Script(tmp_path, CONTROLLED, "controller")
    script.write_program("sbatch", "exit 9")
    process = script.start(restarts=99)
    script.wait_for("begun here -m dvc repro a stage\n")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=30) == 143
    assert script.log().splitlines()[1:] == [
        "heard leave",
        "rederive: controller: stopped before its time limit, and queued again",
        "scontrol requeue 7",
    ]
    assert script.statuses() == {}


def test_controller_that_is_cancelled_has_the_stages_job_cancelled_and_dvc_end_by_itself(
    tmp_path: Path,
) -> None:
    """Slurm sends SIGTERM to all processes, and DVC would leave its locks."""
    script = Script(tmp_path, CONTROLLED, "controller")
    script.write_program("sbatch", "exit 9")
    process = script.start()
    script.wait_for("begun")
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=30) == 255
    assert script.log().splitlines()[1:] == ["heard cancel"]
    assert script.statuses() == {"7.0.status": "255\n"}


def test_controller_on_a_node_that_cannot_submit_is_one_line(tmp_path: Path) -> None:
    script = Script(tmp_path, "echo never", "controller", scratch=None, setup=["PATH=$PWD/bin"])
    (tmp_path / "bin/mv").symlink_to("/bin/mv")
    assert script.start().wait(timeout=30) == 1
    assert script.log().startswith("rederive: controller: there is no sbatch: the controller needs")
    assert script.log().count("\n") == 1


class Staged:
    """A job in an image, which is a file of the folder, that is copied to a disk of the node's."""

    def __init__(self, folder: Path, **changes: object) -> None:
        """Makes the folder with the image `shared/cpu.sif`; apptainer prints which one it gets."""
        self.folder = folder
        for name in ("shared", "scratch", "work/jobs/filter"):
            (folder / name).mkdir(parents=True)
        self.shared = folder / "shared/cpu.sif"
        self.shared.write_bytes(b"an image")
        self.disk = folder / "disk"
        digest = sha256_file(self.shared)
        self.copy = self.disk / f"{digest}.sif"
        program = folder / "apptainer"
        body = '[[ " $* " == *" preflight "* ]] || printf "%s\\n" "$@" | grep "[.]sif$"'
        program.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        program.chmod(0o755)
        site = load_site("example")
        assert isinstance(site, SlurmSite)
        site = replace(
            site,
            images=str(folder / "shared"),
            apptainer=str(program),
            python="python3",
            work_dir=str(folder),
            scratch=str(folder / "scratch"),
            staging=str(self.disk),
            min_scratch_bytes=1,
        )
        site = replace(site, **changes)  # type: ignore[arg-type]
        image = Image(path=str(self.shared), sha256=digest, lock="containers/cpu.lock.yaml")
        self.text = render("filter", {}, site, NEEDS, image)

    def run(self, number: int = 7) -> tuple[int, str]:
        """Returns status and output of the job of that number."""
        env = {"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": str(number), "SLURMD_NODENAME": "n3"}
        done = subprocess.run(
            ["bash", "-s"],
            input=self.text,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout


def test_image_is_copied_to_the_nodes_disk_once(tmp_path: Path) -> None:
    job = Staged(tmp_path)
    assert job.run() == (0, f"{job.copy}\n")
    assert job.copy.read_bytes() == b"an image"
    os.utime(job.copy, (0, 0))
    inode = job.copy.stat().st_ino
    assert job.run() == (0, f"{job.copy}\n")
    assert job.copy.stat().st_ino == inode
    assert job.copy.stat().st_mtime > 0, "it counts as used now"
    assert list(job.disk.iterdir()) == [job.copy]


def test_copy_that_is_damaged_is_made_again(tmp_path: Path) -> None:
    job = Staged(tmp_path)
    job.disk.mkdir()
    job.copy.write_bytes(b"an imaje")
    assert job.run() == (0, f"{job.copy}\n")
    assert job.copy.read_bytes() == b"an image"


def test_image_that_is_damaged_is_refused_and_no_copy_is_left(tmp_path: Path) -> None:
    job = Staged(tmp_path)
    job.shared.write_bytes(b"an imaje")
    said = f"the image {job.shared} has not the sha256 of containers/cpu.lock.yaml: copy it again"
    assert job.run() == (1, f"rederive: filter: {said} (node n3)\n")
    assert list(job.disk.iterdir()) == []


def test_image_that_does_not_fit_is_used_where_it_is(tmp_path: Path) -> None:
    job = Staged(tmp_path, min_scratch_bytes=2**60)
    status, shown = job.run()
    assert (status, shown.splitlines()[1]) == (0, str(job.shared))
    assert shown.startswith(
        f"rederive: filter: the image of 8 bytes does not fit into {job.disk} of n3, where "
    )
    assert list(job.disk.iterdir()) == []
    blocked = Staged(tmp_path / "other", staging="/proc/no")
    status, shown = blocked.run()
    assert (status, shown.splitlines()[-1]) == (0, str(blocked.shared))
    assert "does not fit into /proc/no of n3, where 0 are free" in shown


def test_old_copies_and_halves_are_removed(tmp_path: Path) -> None:
    job = Staged(tmp_path, staging_max_age_days=2)
    job.disk.mkdir()
    for name, days in (("a.sif", 4), ("b.sif", 1), (".partial-x", 4), (".partial-y", 0)):
        (job.disk / name).touch()
        then = time.time() - days * 86400
        os.utime(job.disk / name, (then, then))
    assert job.run()[0] == 0
    assert {path.name for path in job.disk.iterdir()} == {".partial-y", "b.sif", job.copy.name}


def test_jobs_that_stage_at_once_all_have_the_whole_image(tmp_path: Path) -> None:
    job = Staged(tmp_path)
    job.shared.write_bytes(b"x" * 30_000_000)
    job.text = job.text.replace(job.copy.stem, sha256_file(job.shared))
    copy = str(job.disk / f"{sha256_file(job.shared)}.sif\n")
    with ThreadPoolExecutor(4) as pool:
        found = [future.result() for future in [pool.submit(job.run, i) for i in range(4)]]
    assert found == [(0, copy)] * 4
    assert len(list(job.disk.iterdir())) == 1
