"""A stage that samples from a vLLM server beside it: both come, and both go, whoever ends first.

The server is real, on a tiny model; new weights for it would come by NCCL, which needs GPUs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.slurm.asking import make_asking
from tests.slurm.launching import Launched, add_site, jobs_of, launch, let_go, set_needs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.slurm.cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
START_S = 480  # of vLLM and of the stage, which import torch four times, on two cores


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a repository whose stage asks a server."""
    repo = tmp_path_factory.mktemp("asking") / "repo"
    make_asking(repo)
    return repo


@pytest.fixture
def asking(original: Path, tmp_path: Path) -> Path:
    """Returns a copy of it with a site."""
    repo = Path(shutil.copytree(original, tmp_path / "repo"))
    add_site(repo, environment={"VLLM_LOGGING_LEVEL": "ERROR"})
    set_needs(repo, "demo", "server", mem="8G")
    return repo


def start(cluster: Cluster, repo: Path) -> Launched:
    """Returns a launch whose stage has its answers."""
    launched = launch(cluster, repo, "demo")
    launched.wait_for("the stage has its answers", START_S)
    return launched


def components(cluster: Cluster, repo: Path) -> list[dict[str, str]]:
    """Returns what Slurm says of the stage and of its server."""
    return sorted(jobs_of(cluster, repo), key=lambda job: job["HetJobOffset"])


def wait_for_end(cluster: Cluster, repo: Path) -> list[tuple[str, str]]:
    """Returns the ids and states of the stage's job and its server's, when both have ended."""
    found = [cluster.wait(job["JobId"]) for job in components(cluster, repo)]
    return [(job["JobId"], job["JobState"]) for job in found]


def commands_of(pids: Iterable[int]) -> dict[psutil.Process, list[str]]:
    """Returns the processes with their commands, without those that have ended by now."""
    found = {}
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found[process] = process.cmdline()
    return found


def server_processes(cluster: Cluster) -> list[psutil.Process]:
    """Returns vLLM's processes: the one that answers, and those that compute, which it starts.

    These have titles in the place of their environments.
    """
    (first,) = [
        process
        for process, words in commands_of(cluster.processes()).items()
        if {"stages._launch.vllm_cli", "serve"} <= set(words)
    ]
    return [first, *first.children(recursive=True)]


def still_alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Returns those that do not end within seconds."""
    alive: list[psutil.Process] = psutil.wait_procs(processes, timeout=30)[1]
    return alive


def server_log(repo: Path) -> str:
    """Returns what the server has said."""
    (log,) = repo.glob("work/jobs/demo/*.server.log")
    return log.read_text(encoding="utf-8")


def test_process_that_has_ended_has_no_command() -> None:
    this = psutil.Process()
    with subprocess.Popen(["sleep", "60"]) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its parent has not asked yet
        assert commands_of([process.pid, this.pid]) == {this: this.cmdline()}
    assert commands_of([process.pid, this.pid]) == {this: this.cmdline()}


def test_server_is_found_asked_and_ended_though_the_launcher_is_killed(
    cluster: Cluster, asking: Path
) -> None:
    launched = start(cluster, asking)
    stage, server = components(cluster, asking)
    processes = server_processes(cluster)
    assert {stage["NodeList"], server["NodeList"]} == {"node1", "node2"}
    assert (stage["JobState"], server["JobState"]) == ("RUNNING", "RUNNING")
    assert "rederive: server: vLLM answers at http://127.0.0.1:" in server_log(asking)
    launched.stop(signal.SIGKILL)
    again = launch(cluster, asking, "demo")
    again.wait_for(f"watching job {stage['JobId']}")
    let_go(asking)
    assert again.finish() == 0, again.text()
    assert (asking / "artifacts/demo/a").read_text(encoding="utf-8") == "1"
    states = [(stage["JobId"], "COMPLETED"), (server["JobId"], "COMPLETED")]
    assert wait_for_end(cluster, asking) == states
    assert still_alive(processes) == []
    assert list(asking.glob("work/jobs/demo/*.server")) == []


@pytest.mark.parametrize("how", ["its engine is killed", "its job is cancelled"])
def test_end_of_the_server_ends_the_stage(cluster: Cluster, asking: Path, how: str) -> None:
    launched = start(cluster, asking)
    stage, server = components(cluster, asking)
    processes = server_processes(cluster)
    if how == "its job is cancelled":
        cluster.call("scancel", server["JobId"])
    else:
        commands = commands_of(process.pid for process in processes)
        (engine,) = [one for one, words in commands.items() if "EngineCore" in "".join(words[:1])]
        engine.kill()
    assert launched.finish() == 1, launched.text()
    lines = launched.text().splitlines()
    assert "rederive: demo: terminated; nothing half-written was kept" in lines
    log = f"work/jobs/demo/{stage['JobId']}.server.log"
    (line,) = [line for line in lines if "its vLLM server" in line]
    assert line.startswith(
        f"rederive: demo: its vLLM server, job {server['JobId']} on {server['NodeList']}, has "
        f"ended; the last of {log}: rederive: server: vLLM "
    )
    assert f"job {stage['JobId']} is FAILED on" in lines[-1]
    assert "with status 1: what it said is above and in work/jobs/demo/" in lines[-1]
    wait_for_end(cluster, asking)
    assert still_alive(processes) == []


def test_ctrl_c_ends_both(cluster: Cluster, asking: Path) -> None:
    launched = start(cluster, asking)
    processes = server_processes(cluster)
    assert launched.stop(signal.SIGINT) == 130
    assert [state for _, state in wait_for_end(cluster, asking)] == ["CANCELLED", "CANCELLED"]
    assert "its vLLM server" not in launched.text()
    assert still_alive(processes) == []


def test_server_that_cannot_start_is_quoted(cluster: Cluster, asking: Path) -> None:
    shutil.rmtree(asking / "artifacts/sft")
    (asking / "artifacts/sft").mkdir()
    launched = launch(cluster, asking, "demo")
    assert launched.finish() == 1
    assert "rederive: the model artifacts/sft has no config.json: " in launched.text()
    assert "the stage has its answers" not in launched.text()
