"""What the project adds to the work itself: `python3 -m nox -s bench -- overhead`.

Commands take turns with the bare interpreter, so that a busy machine slows both; seconds are
medians. It runs in the repository, on the recorded run, and changes nothing that git knows of:
the stage that it runs, report, writes what is there already, but for runs/report.json, which is put
back.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

NUM_ROUNDS = 10
PYTHON = sys.executable
BARE = [PYTHON, "-c", ""]
IMPORTS = [PYTHON, "-c", "import stages.report.stage"]
MANIFEST = Path("runs/report.json")
# Name, command, what is taken off, goal in seconds.
ROWS = (
    ("python -m stages --help", [PYTHON, "-m", "stages", "--help"], BARE, 0.3),
    ("python -m stages check", [PYTHON, "-m", "stages", "check"], BARE, None),
    ("dvc repro, nothing to do", [str(Path(PYTHON).with_name("dvc")), "repro"], None, 3.0),
    ("python -m stages run report", [PYTHON, "-m", "stages", "run", "report"], IMPORTS, 1.5),
)


def measure(command: list[str]) -> float:
    """Returns the seconds that a command takes."""
    path = f"{Path(PYTHON).parent}{os.pathsep}{os.environ['PATH']}"
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PATH": path})
    return time.perf_counter() - start


def count_torch() -> int:
    """Returns how many modules of torch `python -m stages --help` imports."""
    command = [PYTHON, "-X", "importtime", "-m", "stages", "--help"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return sum(
        line.rpartition("|")[2].strip().partition(".")[0] == "torch" for line in said.splitlines()
    )


def main() -> None:
    """Prints a table."""
    recorded = MANIFEST.read_bytes()
    print(
        "| command | seconds | added to | seconds | added | goal |\n|---|---:|---|---:|---:|---:|"
    )
    try:
        for name, command, less, goal in ROWS:
            measure(command)  # warms up the disk's cache
            pairs = [(measure(command), measure(less) if less else 0.0) for _ in range(NUM_ROUNDS)]
            whole, part = (median(seconds) for seconds in zip(*pairs, strict=True))
            added = median(a - b for a, b in pairs)
            to = {id(BARE): "bare python", id(IMPORTS): "its imports"}.get(id(less), "–")
            print(f"| `{name}` | {whole:.2f} | {to} | {part:.2f} | {added:.2f} | {goal or '–'} |")
    finally:
        MANIFEST.write_bytes(recorded)
    print(f"\n`python -m stages --help` imports {count_torch()} modules of torch.")


if __name__ == "__main__":
    main()
