"""What every test gets: no hub, no telemetry, quiet libraries."""

from __future__ import annotations

import os

# Before any test module imports a library that reads them.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    DO_NOT_TRACK="1",
    VLLM_NO_USAGE_STATS="1",
    VLLM_LOGGING_LEVEL="WARNING",
    TOKENIZERS_PARALLELISM="false",
)
