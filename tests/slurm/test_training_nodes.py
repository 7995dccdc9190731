"""The recipe's own sft on two nodes of the cluster: DeepSpeed's ZeRO-3, connected by gloo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from tests.repository import change, read
from tests.slurm.launching import add_image_site, add_site, launch, set_needs
from tests.training import make_training, read_log

if TYPE_CHECKING:
    from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm


@pytest.mark.parametrize("place", ["here", pytest.param("image", marks=pytest.mark.container)])
def test_two_nodes_learn_what_one_process_learns(
    cluster: Cluster, tmp_path: Path, place: str, request: pytest.FixtureRequest
) -> None:
    repo = tmp_path / "repo"
    make_training(repo)
    add_site(repo)
    if place == "image":
        add_image_site(repo, request.getfixturevalue("image"))
    set_needs(repo, "sft", nodes=2, cpus_per_task=1)
    change(repo, {"sft.per_device_train_batch_size": 8})
    command = [sys.executable, "-m", "stages", "exec", "sft"]
    subprocess.run(command, cwd=repo, check=True)
    one = read_log(repo, "sft")
    model = load_file(repo / "artifacts/sft/model.safetensors")
    change(
        repo,
        {
            "sft.distributed": "zero3",
            "sft.num_processes": 2,
            "sft.per_device_train_batch_size": 4,
        },
    )
    launched = launch(cluster, repo, "sft")
    assert launched.finish(timeout_s=240) == 0, launched.text()
    job = launched.job()
    assert (job["JobState"], job["NumNodes"], job["NodeList"]) == ("COMPLETED", "2", "node[1-2]")
    two = read_log(repo, "sft")
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=1e-4)
    found = load_file(repo / "artifacts/sft/model.safetensors")
    assert found.keys() == model.keys()
    assert all(torch.allclose(found[name], model[name], atol=3e-5) for name in model)
    assert read(repo, "runs/sft.json")["facts"]["num_processes"] == 2
