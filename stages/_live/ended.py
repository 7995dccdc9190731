"""How a process that reads a run learns that it has ended."""

from __future__ import annotations

import os
import select
import sys
import time

END = b"\n"  # what it is told then, on its stdin
_TICK_S = 0.2


def has_ended(parent: int) -> bool:
    """Waits for a moment, and returns whether the run has ended or its process is gone."""
    ready, _, _ = select.select([sys.stdin], [], [], _TICK_S)
    if ready:
        if os.read(sys.stdin.fileno(), 1) == END:
            return True
        time.sleep(_TICK_S)  # the process became another program, which does not say its end
    return os.getppid() != parent
