"""The process that sends a run's figures to trackers: `python -m stages._live.trackers REQUEST`.

It reads the live log, and nothing but the standard library, this package and the trackers: it runs
in .venv-trackers, which has their packages, or else where the stage runs. Addresses and secrets are
the trackers' own business, which read them from the environment. A tracker that fails is said once
and left out.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stages._live.ended import has_ended
from stages._live.rows import LiveLog

if TYPE_CHECKING:
    from stages._live.rows import Entry

PROJECT = "rederive"


class Tracker(Protocol):
    """What gets the figures of a run."""

    def __init__(self, run: str, config: dict[str, Any]) -> None:
        """Begins a run of that name; the configuration goes along."""

    def log(self, entry: Entry) -> None:
        """Sends the figures of a step."""

    def finish(self) -> None:
        """Sends what is left."""


class TensorBoard:
    """Event files in TENSORBOARD_LOGDIR, or else in work/live/tensorboard."""

    def __init__(self, run: str, config: dict[str, Any]) -> None:
        """Begins a run, whose configuration is a text."""
        tensorboardx: Any = importlib.import_module("tensorboardX")
        folder = os.environ.get("TENSORBOARD_LOGDIR") or "work/live/tensorboard"
        self._writer = tensorboardx.SummaryWriter(logdir=str(Path(folder, run)))
        text = json.dumps(config, indent=1, sort_keys=True)
        self._writer.add_text("config", f"```\n{text}\n```", 0)

    def log(self, entry: Entry) -> None:
        """Writes the figures, and at once."""
        for name, figure in entry.figures.items():
            self._writer.add_scalar(name, figure, entry.step, walltime=entry.time)
        self._writer.flush()

    def finish(self) -> None:
        """Closes the file."""
        self._writer.close()


class Trackio:
    """A local data base in TRACKIO_DIR, or the space or server that trackio's variables name."""

    def __init__(self, run: str, config: dict[str, Any]) -> None:
        """Begins a run."""
        self._trackio: Any = importlib.import_module("trackio")
        self._trackio.init(
            project=os.environ.get("TRACKIO_PROJECT") or PROJECT,
            name=run,
            config=config,
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log(self, entry: Entry) -> None:
        """Sends the figures."""
        self._trackio.log(entry.figures, step=entry.step)

    def finish(self) -> None:
        """Waits until all is stored."""
        self._trackio.finish()


class Wandb:
    """Weights & Biases, as WANDB_MODE, WANDB_DIR, WANDB_PROJECT and its other variables say."""

    def __init__(self, run: str, config: dict[str, Any]) -> None:
        """Begins a run."""
        wandb: Any = importlib.import_module("wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=run,
            config=config,
            dir=os.environ.get("WANDB_DIR") or "work/live",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )

    def log(self, entry: Entry) -> None:
        """Sends the figures."""
        self._run.log(entry.figures, step=entry.step)

    def finish(self) -> None:
        """Waits until all is sent."""
        self._run.finish()


KINDS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": Wandb,
}


class Tracking:
    """A run that is tracked, on all trackers that have not failed yet."""

    def __init__(self, request: dict[str, Any], terminal: int) -> None:
        """Begins a run on each tracker.

        Args:
            request: name of the cell; run, its name on trackers; trackers; config; log, the file.
            terminal: the descriptor for what a user should know.
        """
        self._terminal = terminal
        self._name: str = request["name"]
        self._log = LiveLog(Path(request["log"]))
        self._trackers: dict[str, Tracker] = {}
        for kind in request["trackers"]:
            try:
                self._trackers[kind] = KINDS[kind](request["run"], request["config"])
            except BaseException as error:  # noqa: BLE001 - whatever it is, the run goes on
                self._drop(kind, error)

    def look(self) -> None:
        """Sends what is new."""
        for entry in self._log.read():
            for kind, tracker in list(self._trackers.items()):
                try:
                    tracker.log(entry)
                except Exception as error:  # noqa: BLE001 - as above
                    self._drop(kind, error)

    def end(self) -> None:
        """Sends what is left."""
        self.look()
        for kind, tracker in list(self._trackers.items()):
            try:
                tracker.finish()
            except Exception as error:  # noqa: BLE001 - as above
                self._drop(kind, error)

    def _drop(self, kind: str, error: BaseException) -> None:
        self._trackers.pop(kind, None)
        first = (str(error) or type(error).__name__).splitlines()[0]
        os.write(self._terminal, f"rederive: {self._name}: {kind} is left out: {first}\n".encode())


def main(argument: str) -> None:
    """Tracks the run of the request, a JSON object, until its end."""
    request = json.loads(argument)
    terminal = os.dup(sys.stderr.fileno())
    # What the packages print is for nobody.
    path, flags = Path(request["log"]).with_suffix(".trackers"), os.O_WRONLY | os.O_CREAT
    file = os.open(path, flags | os.O_TRUNC | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    tracking = Tracking(request, terminal)
    while not has_ended(request["parent"]):
        tracking.look()
    tracking.end()


if __name__ == "__main__":
    main(sys.argv[1])
