"""Reads what trackers were sent, with their own packages: run by .venv-trackers's Python.

Prints a JSON object: by tracker the name of its only run, its configuration, and figures by step.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

_BLOCK_BYTES, _HEADER_BYTES, _RECORD_BYTES = 2**15, 7, 7


def read_tensorboard(folder: Path) -> dict[str, Any]:
    from tensorboard.backend.event_processing.event_accumulator import (  # noqa: PLC0415
        EventAccumulator,
    )

    (run,) = folder.iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    steps: dict[int, dict[str, float]] = {}
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            steps.setdefault(event.step, {})[name] = event.value
    return {"name": run.name, "config": json.loads(text.strip("`\n")), "steps": steps}


def read_trackio(project: str) -> dict[str, Any]:
    import trackio  # noqa: PLC0415
    from trackio.sqlite_storage import SQLiteStorage  # noqa: PLC0415

    (run,) = trackio.Api().runs(project)
    own = {"timestamp", "step"}
    steps = {
        row["step"]: {name: x for name, x in row.items() if name not in own}
        for row in SQLiteStorage.get_logs(project, run.name)
    }
    return {"name": run.name, "config": dict(run.config), "steps": steps}


def read_wandb(folder: Path) -> dict[str, Any]:
    from wandb.proto import wandb_internal_pb2  # noqa: PLC0415

    (path,) = folder.glob("offline-run-*/run-*.wandb")
    found: dict[str, Any] = {"config": {}, "steps": {}}
    for content in split_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["name"] = record.run.display_name
            for update in record.run.config.update:
                found["config"][update.key] = json.loads(update.value_json)
        elif kind == "history":
            row = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            step = row.pop("_step")
            found["steps"][step] = {name: x for name, x in row.items() if name[0] != "_"}
    return found


def split_records(content: bytes) -> list[bytes]:
    """Returns the records of a LevelDB log, which W&B's files are, behind 7 bytes of their own."""
    place, records, parts = _HEADER_BYTES, [], b""
    while place + _RECORD_BYTES <= len(content):
        room = _BLOCK_BYTES - place % _BLOCK_BYTES
        if room < _RECORD_BYTES:
            place += room
            continue
        _, size, kind = struct.unpack_from("<IHB", content, place)
        place += _RECORD_BYTES
        parts += content[place : place + size]
        place += size
        if kind in {1, 4}:  # whole, or the last part
            records.append(parts)
            parts = b""
    return records


if __name__ == "__main__":
    live = Path(sys.argv[1])
    found = {
        "tensorboard": read_tensorboard(live / "tensorboard"),
        "trackio": read_trackio("rederive"),
        "wandb": read_wandb(live / "wandb"),
    }
    print(json.dumps(found))  # noqa: T201
