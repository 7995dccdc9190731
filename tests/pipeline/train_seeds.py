"""Trains with several seeds in one process, and leaves the logs as `python -m stages seeds` does.

Called as `python train_seeds.py STAGE SEED...` in a repository; the first seed's log becomes that
of the committed run. Importing TRL takes longer than all of it.
"""

from __future__ import annotations

import csv
import importlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, ".")

from stages._contract.params import load_cell
from stages._contract.run import set_environment


def main(stage: str, first: str, *others: str) -> None:
    values = load_cell(Path("params.yaml"), stage, {})
    set_environment(stage, values)
    inputs = importlib.import_module(f"stages.{stage}.params").inputs(values, {})
    run = importlib.import_module(f"stages.{stage}.stage").run
    for seed in (first, *others):
        folder = Path("seeds", stage, seed)
        for name in ("out", "work"):
            (folder / name).mkdir(parents=True)
        run(replace(values, seed=int(seed)), inputs, folder / "out", folder / "work")
        log = Path("metrics/seeds", seed, f"{stage}.jsonl")
        log.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / "out" / "log.jsonl", log)
    committed = Path("metrics/seeds", first, f"{stage}.jsonl")
    rows = [json.loads(line) for line in committed.read_text(encoding="utf-8").splitlines()]
    committed.unlink()
    report = Path("metrics/report", f"{stage}.csv")
    report.parent.mkdir(parents=True, exist_ok=True)
    with report.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    manifest = Path("runs", f"{stage}.json")
    manifest.parent.mkdir(exist_ok=True)
    manifest.write_text(json.dumps({"commit": "0123456789"}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
