"""What a job's script does with signals and statuses: bash runs it, and Slurm's commands are noted.

tests/slurm has the same with Slurm itself, where it is installed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

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

    def __init__(self, folder: Path, stage: str, name: str = "filter", **changes: object) -> None:
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
            self.text = render("filter", {}, changed, NEEDS, None)

    def write_program(self, name: str, body: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def start(self, restarts: int = 0) -> subprocess.Popen[bytes]:
        """Starts bash as Slurm would; what it prints is in the file `log`."""
        (self.folder / "script.sh").write_text(self.text, encoding="utf-8")
        env = {"PATH": f"{self.folder}/bin:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
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
