"""What a job asks a node's driver and torch before its stage starts."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from stages._launch.collective import check_collective
from stages._launch.gpus import check_gpus

pytestmark = pytest.mark.gpu

HOLD = "import torch; torch.zeros(1, device='cuda'); print('there', flush=True); input()"


@pytest.fixture(autouse=True)
def on_any_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes it a node where nobody has chosen among the GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_gpus_of_this_node_are_counted_and_named() -> None:
    num = torch.cuda.device_count()
    check_gpus(num, None)
    with pytest.raises(ValueError, match=f"is {num + 1}, and nvidia-smi finds {num} on this node"):
        check_gpus(num + 1, None)
    with pytest.raises(ValueError, match="gpu_type in the site's file is k80, and this node has "):
        check_gpus(num, "k80")


def test_who_computes_beside_is_found() -> None:
    call = [sys.executable, "-c", HOLD]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "there\n"
        with pytest.raises(ValueError, match=rf"is used by another process \({other.pid}"):
            check_gpus(torch.cuda.device_count(), None)
        other.communicate("\n")
    check_gpus(torch.cuda.device_count(), None)


def test_process_without_a_gpu_is_named() -> None:
    num = torch.cuda.device_count() + 1
    with pytest.raises(ValueError, match=rf"torch \(CUDA .*\) cannot use cuda:{num - 1} of "):
        check_collective(num, 1, num, 60)
