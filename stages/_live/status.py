"""How far a run is: what screens show."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages._live.output import Bar
    from stages._live.rows import Entry

# The most telling first. Of a reward, its parts follow it.
_FIRST = ("loss", "reward")
_LAST = (
    "mean_token_accuracy",
    "accuracy",
    "margin",
    "kl",
    "completion_length",
    "entropy",
    "grad_norm",
    "learning_rate",
    "tokens_per_s",
)
_NUM_DIGITS = 4
_TRAINING = "step"


@dataclass(slots=True)
class Status:
    """A run as it is now."""

    name: str
    rewards: tuple[str, ...]  # the parts of a reward
    start: float = field(default_factory=time.monotonic)
    what: str = _TRAINING  # what is counted: steps of training, or what a progress bar is named
    done: int = 0
    total: int = 0
    num_steps: int = 0  # of training, once it is known
    noted: int = 0  # the last step of training with figures
    left_s: int | None = None
    seen: float = 0.0  # when left_s was true
    figures: dict[str, float] = field(default_factory=dict)
    verdict: str = ""

    def note_bar(self, bar: Bar) -> None:
        """Takes over what a progress bar says; the trainer's has no name."""
        what = bar.name or _TRAINING
        if what != self.what:
            self.figures = {}
        # The figures of a step come before the bar is drawn.
        self.done = max(self.done, bar.done) if what == self.what == _TRAINING else bar.done
        self.what, self.total = what, bar.total
        self.num_steps = bar.total if what == _TRAINING else self.num_steps
        self.left_s, self.seen = bar.left_s, time.monotonic()
        if bar.tokens_per_s is not None:
            self.figures = {"tokens_per_s": bar.tokens_per_s}

    def note_entry(self, entry: Entry) -> None:
        """Takes over the figures of a step of training."""
        if self.what != _TRAINING:
            self.what, self.left_s = _TRAINING, None
        self.done, self.figures, self.noted = entry.step, entry.figures, entry.step
        self.total = max(self.num_steps, entry.step)

    @property
    def expects_figures(self) -> bool:
        """Returns whether those of the step that the bar has reached may be printed at once."""
        return self.what == _TRAINING and self.done <= self.noted + 1

    def describe_place(self) -> str:
        """Returns how far it is: `step 3/12`."""
        return f"{self.what} {self.done}/{self.total}"

    def describe_time(self) -> str:
        """Returns how long it has run, and how long it will."""
        now = time.monotonic()
        passed = f"{show_time(now - self.start)} elapsed"
        if self.left_s is None:
            return passed
        return f"{passed}, {show_time(max(0, self.left_s - (now - self.seen)))} left"

    def list_figures(self) -> list[tuple[str, str]]:
        """Returns the figures that tell most, by name, as texts."""
        names = [*_FIRST, *self.rewards, *_LAST]
        return [(name, show_number(self.figures[name])) for name in names if name in self.figures]


def show_number(x: float) -> str:
    """Returns the number with four digits, and no more zeros than it needs."""
    return f"{x:.0f}" if 10**_NUM_DIGITS <= abs(x) < 10**9 else f"{x:.{_NUM_DIGITS}g}"


def show_time(seconds: float) -> str:
    """Returns the time as 1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
