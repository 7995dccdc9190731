"""Lines of `scontrol --oneliner show job`, as Slurm 22.05 printed them, shortened at the end."""

from __future__ import annotations

import pytest

from stages._launch.slurm import Job, join_components, parse_jobs

START = "UserId=a(1) GroupId=a(1) MCS_label=N/A Priority=9 Nice=0 Account=(null) QOS=(null)"
FAILED = (
    f"JobId=1 JobName=x {START} JobState=FAILED Reason=NonZeroExitCode Dependency=(null) Requeue=1 "
    "Restarts=0 BatchFlag=1 Reboot=0 ExitCode=7:0 RunTime=00:00:00 TimeLimit=00:10:00 "
    "ReqNodeList=(null) ExcNodeList=(null) NodeList=node1 BatchHost=node1 NumNodes=1 "
    "Comment=JobState=FAKE ExitCode=9:9  StdErr=/a/job-1.log StdIn=/dev/null Power="
)
PENDING = (
    f"JobId=3 JobName=x {START} JobState=PENDING Reason=Resources Dependency=(null) Requeue=1 "
    "Restarts=2 BatchFlag=1 Reboot=0 ExitCode=0:0 RunTime=00:00:00 TimeLimit=00:10:00 "
    "ReqNodeList=(null) ExcNodeList=(null) NodeList= SchedNodeList=node1 NumNodes=1"
)
RUNNING = PENDING.replace("PENDING Reason=Resources", "RUNNING Reason=None").replace(
    "NodeList= SchedNodeList=node1", "NodeList=node[1-2] BatchHost=node1"
)


def parse_job(line: str) -> Job:
    """Returns the only job that the line describes."""
    (job,) = parse_jobs(line)
    return job


def test_ended_job_has_its_status_and_place() -> None:
    job = parse_job(FAILED)
    assert job == Job(
        id="1",
        state="FAILED",
        reason="NonZeroExitCode",
        nodes="node1",
        status=7,
        restarts=0,
    )
    assert job.has_ended


def test_signal_is_the_status_that_shells_give_it() -> None:
    assert parse_job(FAILED.replace("ExitCode=7:0", "ExitCode=0:9")).status == 137


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (FAILED, "FAILED (NonZeroExitCode)"),
        (PENDING, "PENDING (Resources)"),
        (PENDING.replace("Reason=Resources", "Reason=None"), "PENDING"),
        (RUNNING, "RUNNING on node[1-2]"),
    ],
)
def test_description_says_what_a_user_asks(line: str, text: str) -> None:
    assert parse_job(line).describe() == text


def test_waiting_job_was_placed_nowhere_and_has_begun_again() -> None:
    job = parse_job(PENDING)
    assert (job.nodes, job.restarts, job.has_ended, job.is_hopeless) == ("", 2, False, False)


@pytest.mark.parametrize("reason", ["PartitionTimeLimit", "BadConstraints", "InvalidQOS"])
def test_some_reasons_never_pass(reason: str) -> None:
    assert parse_job(PENDING.replace("Resources", reason)).is_hopeless


@pytest.mark.parametrize(
    "state", ["CANCELLED", "COMPLETED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"]
)
def test_job_has_ended_when_it_will_not_run_again(state: str) -> None:
    assert parse_job(FAILED.replace("=FAILED", f"={state}")).has_ended


@pytest.mark.parametrize("state", ["COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED"])
def test_job_on_its_way_has_not_ended(state: str) -> None:
    assert not parse_job(FAILED.replace("=FAILED", f"={state}")).has_ended


@pytest.mark.parametrize(
    ("tasks", "numbers"),
    [
        ("3", [3]),
        ("2-4", [2, 3, 4]),
        ("1,3,6-7", [1, 3, 6, 7]),
        ("1-9:4", [1, 5, 9]),
        ("2-5%2", [2, 3, 4, 5]),
    ],
)
def test_tasks_that_share_a_line_are_jobs_of_their_own(tasks: str, numbers: list[int]) -> None:
    line = PENDING.replace("JobId=3", f"JobId=9 ArrayJobId=3 ArrayTaskId={tasks}")
    jobs = parse_jobs(line)
    assert [job.id for job in jobs] == [f"3_{number}" for number in numbers]
    assert {job.describe() for job in jobs} == {"PENDING (Resources)"}


def test_job_with_a_server_is_where_both_are_and_waits_for_either() -> None:
    waits = parse_job(PENDING.replace("Reason=Resources", "Reason=None"))
    job = join_components([parse_job(RUNNING), parse_job(FAILED)])
    assert (job.id, job.state, job.nodes, job.restarts) == ("3", "RUNNING", "node[1-2],node1", 2)
    server = parse_job(PENDING.replace("Reason=Resources", "Reason=PartitionTimeLimit"))
    assert join_components([waits, server]).is_hopeless
    assert not join_components([waits, waits]).is_hopeless
