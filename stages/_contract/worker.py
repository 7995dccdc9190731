"""One process of a stage that computes in several: `accelerate launch` starts it, not the user."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from stages._contract import manifest, params
from stages._contract.artifacts import write_json
from stages._contract.processes import FAILURE, RESULTS
from stages._contract.run import PARAMS, set_environment


def main(arguments: list[str]) -> int:
    """Runs the stage's cell in this process, and returns its exit status.

    Process 0 writes into the output's folder and leaves its results in `work`; what another one
    writes into its own is removed.
    """
    stage, cell, out, work = arguments
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent says what there is to say
    values = params.load_cell(PARAMS, stage, json.loads(cell))
    inputs = importlib.import_module(f"stages.{stage}.params").inputs(values, json.loads(cell))
    set_environment(stage, values)
    _quieten(values)
    module = importlib.import_module(f"stages.{stage}.stage")
    is_first = os.environ["RANK"] == "0"
    with tempfile.TemporaryDirectory() as scratch:
        try:
            results = module.run(values, inputs, Path(out if is_first else scratch), Path(work))
        except (ValueError, FileNotFoundError) as error:
            if os.environ.get("R1_TRACEBACK"):
                raise
            # The parent stops the others as soon as one has failed: this file is to be whole.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            leave_failure(Path(work), error)
            return 1
    if is_first:
        write_json(Path(work) / RESULTS, {"results": results, "facts": manifest.noted()})
    return 0


def _quieten(values: Any) -> None:
    """Leaves out what DeepSpeed builds and says on a CPU that no result may depend on."""
    if values.distributed in {"zero2", "zero3"} and values.image == "cpu":
        # For this process alone: DeepSpeed is no dependency of one that computes by itself.
        import deepspeed  # noqa: PLC0415

        # Compiled at the start for the CPU that it finds: its sums differ from machine to machine.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        warnings.filterwarnings("ignore", r"`torch.distributed.*deprecated", FutureWarning)


def leave_failure(work: Path, error: Exception) -> None:
    """Leaves the message of the first process that fails; the others' is dropped."""
    with suppress(FileExistsError), (work / FAILURE).open("x", encoding="utf-8") as file:
        json.dump({"message": str(error)}, file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
