"""Lines about a run: one per step, and one for a bar that has said nothing for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages._live.output import Bar, read_piece
from stages._live.rows import Entry
from stages._live.screens import PlainScreen
from stages._live.status import Status, show_number, show_time

if TYPE_CHECKING:
    import pytest


def bar(text: str) -> Bar:
    found = read_piece(f"{text}\n".encode())
    assert isinstance(found, Bar)
    return found


def test_bar_of_a_step_whose_figures_follow_has_no_line(capfd: pytest.CaptureFixture[str]) -> None:
    status, screen = Status(name="sft", rewards=()), PlainScreen("sft")
    screen._shown = -100.0  # long ago
    for step in (1, 2):
        status.note_bar(bar(f" 10%|█ | {step}/9 [00:15<02:21, 15.71s/it]"))
        screen.show_bar(status)
        status.note_entry(Entry(step, 0.0, {"loss": 0.5}))
        screen.show_step(status)
        screen._shown = -100.0
    status.note_bar(bar(" 44%|█ | 4/9 [00:15<02:21, 15.71s/it]"))  # step 3 was not logged
    screen.show_bar(status)
    screen.show_bar(status)
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "sft: step 1/9",
        "sft: step 2/9",
        "sft: step 4/9",
    ]
    assert lines[0].endswith("loss 0.5")


def test_bar_with_a_name_has_a_line_if_it_is_slow_or_says_how_fast(
    capfd: pytest.CaptureFixture[str],
) -> None:
    status, screen = Status(name="generate", rewards=()), PlainScreen("generate")
    for text in (
        "Loading: 50%|█ | 1/2 [00:15<02:21, 15.71s/it]",
        "generate: 50%|█ | 1/2 [00:15<02:21, 15.71s/it, 92 tok/s]",
        "generate: 50%|█ | 1/2 [00:15<02:21, 15.71s/it, 95 tok/s]",
    ):
        status.note_bar(bar(text))
        screen.show_bar(status)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("generate: generate 1/2, 0:0")
    assert line.endswith(" left, tokens_per_s 92")


def test_numbers_and_times() -> None:
    assert [show_number(x) for x in (0.123456, 12345.6, 3e-5, 0.0, float("nan"))] == [
        *("0.1235", "12346", "3e-05", "0", "nan"),
    ]
    assert [show_time(x) for x in (5.9, 65, 3723)] == ["0:05", "1:05", "1:02:03"]
