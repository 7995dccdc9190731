"""The processes of a stage, tried together by gloo: real ones, and some that never come."""

from __future__ import annotations

import re
import socket
import subprocess
import sys

import pytest

from stages._launch.collective import check_clocks, check_collective

CHECK = "from stages._launch.collective import check_collective; check_collective(2, 2, 0, 60)"


def test_one_process_is_not_tried() -> None:
    check_collective(1, 1, 0, 0.001)
    check_collective(0, 1, 0, 0.001)


def test_two_processes_of_one_node_add_up() -> None:
    check_collective(2, 1, 0, 60)


def nodes(port: int) -> list[subprocess.Popen[str]]:
    """Returns the checks of two nodes with a process each, which run."""
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PATH": "/usr/bin"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", CHECK],
            env=variables | {"R1_NODE_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def test_processes_of_two_nodes_add_up_and_leave_their_port_to_the_stage() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for _ in range(2):
        found = [(node.communicate(timeout=120)[1], node.returncode) for node in nodes(port)]
        assert found == [("", 0), ("", 0)]


def use_port(monkeypatch: pytest.MonkeyPatch, node_rank: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(probe.getsockname()[1]))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("R1_NODE_RANK", str(node_rank))


def test_node_that_never_comes_is_named_with_its_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    use_port(monkeypatch, 0)
    message = re.escape("ranks 1-2 of 3 (node ranks 1-2 of 3) did not come within 2 s: see what")
    with pytest.raises(ValueError, match=message):
        check_collective(3, 3, 0, 2)


def test_first_node_that_never_comes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    use_port(monkeypatch, 1)
    with pytest.raises(
        ValueError, match=r"^rank 0 is not at 127.0.0.1:\d+ after 2 s: see what its"
    ):
        check_collective(2, 2, 0, 2)


def test_processes_without_gpus_are_refused_by_nccl() -> None:
    """Here without GPUs; where there are two, they would add up."""
    import torch  # noqa: PLC0415 - takes seconds

    if torch.cuda.device_count() > 1:
        check_collective(2, 1, 2, 60)
        return
    with pytest.raises(ValueError, match=r"^torch \(CUDA None\) cannot use cuda:\d of "):
        check_collective(2, 1, 2, 60)


def test_clocks_of_nodes_are_compared() -> None:
    check_clocks([(100.0, "a"), (104.0, "b")])
    with pytest.raises(ValueError, match="the clock of a is 21 s behind that of c, and DVC and"):
        check_clocks([(100.0, "a"), (104.0, "b"), (121.0, "c")])
