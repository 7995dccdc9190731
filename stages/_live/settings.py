"""What the environment says about the display of a run. None of it is in a hash."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, cast, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

Progress = Literal["rich", "plain", "raw"]
Tracker = Literal["tensorboard", "trackio", "wandb"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How a run is shown, and what else gets its figures."""

    progress: Progress
    trackers: tuple[Tracker, ...]


def read_settings(environment: Mapping[str, str], *, is_terminal: bool) -> Settings:
    """Returns the settings: R1_PROGRESS, by default rich in a terminal, and R1_TRACKERS, none.

    Raises:
        ValueError: a word is unknown, or trackers are asked for where nothing follows the run.
    """
    progress = environment.get("R1_PROGRESS") or ("rich" if is_terminal else "plain")
    _check("R1_PROGRESS", progress, get_args(Progress))
    words = [word.strip() for word in environment.get("R1_TRACKERS", "").split(",")]
    trackers = tuple(dict.fromkeys(filter(None, words)))
    for tracker in trackers:
        _check("R1_TRACKERS", tracker, get_args(Tracker))
    if trackers and progress == "raw":
        raise ValueError(
            f"R1_TRACKERS is {','.join(trackers)!r}, and with R1_PROGRESS=raw nothing reads the "
            f"figures: set R1_PROGRESS to plain or rich, or unset one of the two"
        )
    return Settings(
        progress=cast("Progress", progress), trackers=cast("tuple[Tracker, ...]", trackers)
    )


def _check(key: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        near = get_close_matches(word, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
        raise ValueError(f"{key}: unknown word {word!r}: {hint}")
