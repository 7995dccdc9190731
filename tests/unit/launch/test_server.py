"""The server's command, as TRL would have it, and its needs; tests/slurm runs a real one."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from stages._launch.resources import load_resources, load_server
from stages._launch.server import command_of, needs_server

VALUES = SimpleNamespace(
    use_vllm=True,
    vllm_mode="server",
    vllm_tensor_parallel_size=2,
    vllm_gpu_memory_utilization=0.9,
    vllm_max_model_length=4096,
    dtype="bfloat16",
    seed=7,
)


def change(**changes: object) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(VALUES), **changes})


def test_only_vllm_in_server_mode_needs_a_server() -> None:
    assert needs_server(VALUES)
    assert not needs_server(change(use_vllm=False))
    assert not needs_server(change(vllm_mode="colocate"))
    assert not needs_server(SimpleNamespace(seed=7))


def test_command_is_trls_with_this_stages_parameters() -> None:
    command = command_of(VALUES, Path("artifacts/sft"), "10.0.0.1", 8001)
    assert command[:5] == [
        sys.executable,
        "-m",
        "stages._launch.vllm_cli",
        "serve",
        "artifacts/sft",
    ]
    options = dict(pairwise(command))
    assert options["--host"] == "10.0.0.1"
    assert options["--port"] == "8001"
    assert options["--tensor-parallel-size"] == "2"
    assert options["--data-parallel-size"] == "1"
    assert options["--gpu-memory-utilization"] == "0.9"
    assert options["--dtype"] == "bfloat16"
    assert options["--max-model-len"] == "4096"
    assert options["--seed"] == "7"
    # What TRL's trainer cannot do without.
    assert options["--weight-transfer-config"] == '{"backend": "nccl"}'
    assert options["--logprobs-mode"] == "processed_logprobs"
    assert options["--max-logprobs"] == "-1"


def test_context_that_is_null_is_left_to_vllm() -> None:
    command = command_of(change(vllm_max_model_length=None), Path("m"), "h", 1)
    assert "--max-model-len" not in command


@pytest.fixture
def needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a slurm/resources.yaml beside a params.yaml whose grpo has a server."""
    root = Path(__file__).parents[3]
    text = (root / "params.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("use_vllm: false", "use_vllm: true"),
        ("vllm_mode: colocate", "vllm_mode: server"),
        ("recipe: smollm2-cpu", "recipe: it"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "slurm").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "slurm/resources.yaml"


def write(path: Path, **server: object) -> None:
    same = "array: 1, cpus_per_task: 1, mem: 1G"
    wanted = {"nodes": 1, "gpus_per_node": 1, "time": '"02:00:00"', **server}
    shown = ", ".join(f"{key}: {value}" for key, value in wanted.items())
    grpo = '{nodes: 1, gpus_per_node: 1, time: "01:00:00", ' + same + "}"
    path.write_text(f"it:\n  grpo: {grpo}\n  server: {{{shown}, {same}}}\n", encoding="utf-8")


def test_servers_needs_are_those_of_the_recipe(needs: Path) -> None:
    write(needs)
    found = load_server("grpo", load_resources("grpo"))
    assert found is not None
    assert (found.nodes, found.gpus_per_node, found.time_s) == (1, 1, 7200)
    needs.write_text(needs.read_text(encoding="utf-8").partition("  server")[0], encoding="utf-8")
    with pytest.raises(ValueError, match="it.server is missing: give it the needs of another"):
        load_server("grpo", load_resources("grpo"))


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ({"nodes": 2}, r"it.server: nodes is 2, and TRL's trainer knows one server \(vllm_server_"),
        ({"gpus_per_node": 4}, "server has 4 GPUs, and grpo.vllm_tensor_parallel_size of params"),
        ({"time": '"00:30:00"'}, "time of server is 00:30:00, and grpo has 01:00:00: the stage"),
    ],
)
def test_needs_that_do_not_fit_are_named(
    needs: Path, server: dict[str, object], message: str
) -> None:
    write(needs, **server)
    with pytest.raises(ValueError, match=message):
        load_server("grpo", load_resources("grpo"))
