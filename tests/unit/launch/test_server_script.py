"""What a job's script does with its server: bash runs it, and `srun` runs here what a node would.

tests/slurm has the same with Slurm and with vLLM.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.unit.launch.test_script import NEEDS, WAITS, Script

# A server that ends when the file `end` is there, and the stage that asks it.
SERVES = """\
if [ "$3" = serve ]; then
    echo http://here:1 >"$6"
    until [ -e end ]; do sleep 0.1; done
    printf "a library's last words, without an end of line" >&2
    echo "rederive: server: vLLM has ended with status 9" >&2
    exit 9
fi
[ "$3" = preflight ] && { echo "checks for ${R1_VLLM_SERVER-the server}"; exit 0; }
"""
SRUN = 'exec "${@: -3}"'


def make(folder: Path, stage: str) -> Script:
    """Returns a script whose python is both the server and the stage."""
    script = Script(folder, stage, server=NEEDS)
    script.write_program("srun", SRUN)
    return script


def test_stage_begins_when_its_server_answers_and_knows_where(tmp_path: Path) -> None:
    script = make(tmp_path, SERVES + 'echo "asks $R1_VLLM_SERVER"')
    process = script.start()
    script.wait_for("asks")
    (tmp_path / "end").touch()
    assert process.wait(timeout=30) == 0
    with suppress(ProcessLookupError):  # the server may have seen `end`
        os.killpg(process.pid, signal.SIGTERM)  # as Slurm ends what a job leaves
    assert script.log() == "checks for http://here:1\nasks http://here:1\n"
    assert (script.results / "7.0.status").read_text(encoding="utf-8") == "0\n"
    assert "checks for the server" in (script.results / "7.server.log").read_text("utf-8")


def test_stage_whose_server_ends_is_told_to_end_and_fails(tmp_path: Path) -> None:
    script = make(tmp_path, SERVES + WAITS)
    process = script.start()
    script.wait_for("begun")
    (tmp_path / "end").touch()
    assert process.wait(timeout=30) == 1
    assert script.log().splitlines()[1:] == [
        "begun",
        "terminated",
        (
            "rederive: filter: its vLLM server, job 8 on n2, has ended; the last of "
            "work/jobs/filter/7.server.log: rederive: server: vLLM has ended with status 9"
        ),
    ]
    assert (script.results / "7.0.status").read_text(encoding="utf-8") == "1\n"


def test_stage_does_not_begin_if_its_server_does_not(tmp_path: Path) -> None:
    fails = '[ "$3" = serve ] && { echo "rederive: there is no model" >&2; exit 1; }\necho "$3"'
    script = make(tmp_path, fails)
    assert script.start().wait(timeout=30) == 1
    assert script.log() == (
        "rederive: filter: its vLLM server, job 8 on n2, has ended; the last of "
        "work/jobs/filter/7.server.log: rederive: there is no model\n"
    )
    assert (script.results / "7.0.status").read_text(encoding="utf-8") == "1\n"


def test_warning_while_the_server_starts_queues_the_job_again(tmp_path: Path) -> None:
    script = make(tmp_path, 'echo "$3"; [ "$3" = serve ] && sleep 20; exit 0')
    process = script.start()
    log = script.results / "7.server.log"
    while not (log.exists() and "serve" in log.read_text(encoding="utf-8")):
        assert process.poll() is None
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=30) == 143
    os.killpg(process.pid, signal.SIGTERM)  # as Slurm ends what a job leaves
    assert "exec" not in script.log()
    assert script.log().endswith("scontrol requeue 7\n")
