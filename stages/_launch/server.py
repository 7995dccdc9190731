"""A vLLM server from which TRL's trainer samples: started beside a job, found, and asked.

What is started is what TRL asks of vLLM (`trl.scripts.vllm_serve.build_command`). The trainer sends
it new weights by NCCL, which needs GPUs: that was never run. Whoever reaches its port can use it
and change its weights, as TRL means it: the cluster's network must be trusted.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from stages._contract import params
from stages._contract.artifacts import check_model, write_whole
from stages._contract.run import PARAMS
from stages._launch.collective import free_port

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from stages._contract.places import Cell

ADDRESS = "R1_VLLM_SERVER"  # the variable that tells the stage
_POLL_S = 0.5
_HEALTH_S = 5  # between questions to a server that is up
_END_S = 20
_MAX_SOCKET_FOLDER = 70  # characters: the path of a socket has at most 107, and vLLM adds 37


def needs_server(values: Any) -> bool:
    """Returns whether a stage with these parameters samples from a server."""
    return bool(getattr(values, "use_vllm", False)) and values.vllm_mode == "server"


def serve(stage: str, cell: Cell, endpoint: Path) -> int:
    """Serves the cell's model until SIGTERM, and returns the exit status, vLLM's own if it ends.

    The address is in the file `endpoint` when the server answers.

    Raises:
        ValueError: the stage needs none, or there is no model.
    """
    values = params.load_cell(PARAMS, stage, cell)
    if not needs_server(values):
        raise ValueError(
            f"{stage} needs no server: {stage}.use_vllm must be true and vllm_mode server"
        )
    model = _model_of(stage, values, cell)
    check_model(model)
    host = _own_address()
    port = free_port(host)
    asked_to_end: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        asked_to_end.append(number)
        process.terminate()

    process = subprocess.Popen(command_of(values, model, host, port), env=_environment(values))  # noqa: S603
    signal.signal(signal.SIGTERM, note)
    try:
        status = _watch(process, f"http://{host}:{port}", endpoint, asked_to_end)
    finally:
        endpoint.unlink(missing_ok=True)
        _end(process)
    return 0 if asked_to_end else status


def _watch(
    process: subprocess.Popen[bytes], url: str, endpoint: Path, asked_to_end: list[int]
) -> int:
    """Returns the status when the server has ended or does not compute any more."""
    is_up = False
    asked = 0.0
    while process.poll() is None and not asked_to_end:
        now = time.monotonic()
        if now - asked >= (_HEALTH_S if is_up else _POLL_S):
            asked = now
            health = _ask_health(url)
            if health == HTTPStatus.OK and not is_up:
                is_up = True
                with write_whole(endpoint) as file:
                    file.write(f"{url}\n")
                _say(f"vLLM answers at {url}")
            elif health == HTTPStatus.SERVICE_UNAVAILABLE and is_up:
                _say("vLLM says that its engine is dead")
                return 1
        time.sleep(_POLL_S)
    if asked_to_end:
        _say("vLLM is told to end")
        return 0
    status = process.returncode
    status = status if status >= 0 else 128 - status  # as shells say it
    _say(f"vLLM has ended with status {status}")
    return status or 1


def _ask_health(url: str) -> int | None:
    """Returns the status of the answer, or None if there was none: it starts, or is busy."""
    import requests  # noqa: PLC0415 - not to launch a stage

    try:
        return int(requests.get(f"{url}/health", timeout=_HEALTH_S).status_code)
    except requests.RequestException:
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def command_of(values: Any, model: Path, host: str, port: int) -> list[str]:
    """Returns the command that serves the model as TRL's trainer expects."""
    from trl.scripts.vllm_serve import ScriptArguments, build_command  # noqa: PLC0415 - takes seconds

    from stages.generate.engine import is_cpu_build  # noqa: PLC0415 - not to launch a stage

    arguments = ScriptArguments(
        model=str(model),
        tensor_parallel_size=values.vllm_tensor_parallel_size,
        host=host,
        port=port,
        gpu_memory_utilization=values.vllm_gpu_memory_utilization,
        dtype=values.dtype,
        max_model_len=values.vllm_max_model_length,
        enforce_eager=is_cpu_build(),  # there compiling takes a minute, and gains little
        log_level="warning",
    )
    python, flag, module, *rest = build_command(arguments, ["--seed", str(values.seed)])
    assert (flag, module) == ("-m", "vllm.entrypoints.cli.main"), "as in TRL 1.14.2"
    return [python, "-m", "stages._launch.vllm_cli", *rest]


def check_server(stage: str, cell: Cell, url: str) -> None:
    """Checks that the server serves the cell's model, by a token that TRL's own client asks for.

    Raises:
        ValueError: it does not.
    """
    from trl.generation.vllm_client import VLLMClient  # noqa: PLC0415 - takes seconds

    wanted = str(_model_of(stage, params.load_cell(PARAMS, stage, cell), cell))
    try:
        client = VLLMClient(base_url=url)
        answer = client.generate([[0]], max_tokens=1, generation_kwargs={"ignore_eos": True})
    except Exception as error:  # TRL raises Exception itself
        raise ValueError(
            f"the vLLM server at {url} does not answer TRL's client: {error}: see its log"
        ) from error
    if client.model != wanted:
        raise ValueError(f"the vLLM server at {url} serves {client.model} instead of {wanted}")
    if [len(ids) for ids in answer["completion_ids"]] != [1]:
        raise ValueError(f"the vLLM server at {url} gave {answer} where one token was asked for")


def _model_of(stage: str, values: Any, cell: Cell) -> Path:
    declared: Any = importlib.import_module(f"stages.{stage}.params")
    model: Path = declared.inputs(values, cell).model
    return model


def _environment(values: Any) -> dict[str, str]:
    """Returns the server's environment."""
    found = {
        **os.environ,
        # As `trl vllm-serve` sets them: the ways to new weights, and workers that may use CUDA.
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    from stages.generate.engine import is_cpu_build  # noqa: PLC0415 - not to launch a stage

    if len(tempfile.gettempdir()) > _MAX_SOCKET_FOLDER:
        found["VLLM_RPC_BASE_PATH"] = "/tmp"  # noqa: S108 - the names of the sockets are random
    if is_cpu_build():
        # The engine is in a process of its own, which counts its threads so; waiting, they sleep.
        found["OMP_NUM_THREADS"] = str(values.num_threads)
        found["OMP_WAIT_POLICY"] = "PASSIVE"
        found["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    return found


def _own_address() -> str:
    """Returns the address of this node as the node of the stage sees it, or its name."""
    other = os.environ.get("SLURM_LAUNCH_NODE_IPADDR")
    if other is None:
        return socket.gethostname()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((other, 1))  # sends nothing
        return str(probe.getsockname()[0])


def _say(message: str) -> None:
    print(f"rederive: server: {message}", file=sys.stderr, flush=True)  # noqa: T201
