"""What libraries print, as they printed it, is told apart, and none of it is lost."""

from __future__ import annotations

import math

import pytest

from stages._live.output import Bar, Blank, Piece, Reader, Row, Text

# Of real runs: TRL's trainer, tqdm, datasets, vLLM, the stages' own errors.
TRAINING = (
    "\r  0%|          | 0/10 [00:00<?, ?it/s]"
    "\r 10%|█         | 1/10 [00:15<02:21, 15.71s/it]"
    "\r                                              \r"
    "{'loss': '1.546', 'grad_norm': '12.15', 'learning_rate': '0', 'entropy': '1.478', "
    "'num_tokens': '1270', 'mean_token_accuracy': '0.7364', 'epoch': '0.1111'}\n"
    "\r 10%|█         | 1/10 [00:16<02:21, 15.71s/it]"
    "\r100%|██████████| 10/10 [02:07<00:00, 12.77s/it]\n"
    "rederive: preference: terminated; nothing half-written was kept\n"
)
GENERATING = (
    "[W1126 02:54:47.395780095 utils.cpp:68] Warning: NUMA binding: Using MEMBIND policy\n"
    "\rgenerate:   0%|          | 0/480 [00:00<?, ?trace/s]"
    "\rgenerate:  13%|█▎        | 64/480 [00:26<02:51,  2.42trace/s, 92 tok/s]"
    "\rgenerate: 100%|██████████| 480/480 [1:03:03<00:00,  2.62trace/s, 98 tok/s]\n"
)


def read(text: bytes, size: int) -> list[Piece]:
    """Returns the pieces of a text that comes in parts of this size."""
    reader = Reader()
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    return [*(piece for part in parts for piece in reader.feed(part)), *reader.end()]


def of(kind: type[Piece], pieces: list[Piece]) -> list[Piece]:
    return [piece for piece in pieces if type(piece) is kind]


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
@pytest.mark.parametrize("text", [TRAINING, GENERATING], ids=["training", "generating"])
def test_nothing_is_lost_however_it_comes(text: str, size: int) -> None:
    pieces = read(text.encode(), size)
    assert b"".join(piece.raw for piece in pieces) == text.encode()


@pytest.mark.parametrize("size", [1, 13, 10_000])
def test_training_is_bars_a_row_and_text(size: int) -> None:
    pieces = read(TRAINING.encode(), size)
    bars = [(p.name, p.done, p.total, p.left_s) for p in pieces if isinstance(p, Bar)]
    assert list(dict.fromkeys(bars)) == [
        ("", 0, 10, None),
        ("", 1, 10, 141),
        ("", 10, 10, 0),
    ]
    (row,) = of(Row, pieces)
    assert isinstance(row, Row)
    assert row.figures == {
        "loss": 1.546,
        "grad_norm": 12.15,
        "learning_rate": 0.0,
        "entropy": 1.478,
        "num_tokens": 1270.0,
        "mean_token_accuracy": 0.7364,
        "epoch": 0.1111,
    }
    said = b"rederive: preference: terminated; nothing half-written was kept\n"
    assert [piece.raw for piece in of(Text, pieces)] == [said]


def test_generating_says_how_fast() -> None:
    pieces = read(GENERATING.encode(), 10_000)
    bars = [(p.name, p.done, p.left_s, p.tokens_per_s) for p in pieces if isinstance(p, Bar)]
    assert bars == [
        ("generate", 0, None, None),
        ("generate", 64, 171, 92.0),
        ("generate", 480, 0, 98.0),
    ]
    assert [piece.raw[:6] for piece in of(Text, pieces)] == [b"[W1126"]


@pytest.mark.parametrize("size", [1, 10_000])
def test_bar_below_another_is_no_text(size: int) -> None:
    """While a checkpoint is saved: tqdm goes down a line, and up again."""
    inner = "Writing model shards:   0%|          | 0/1 [00:00<?, ?it/s]"
    text = (
        f"\r 29%|██▊       | 2/7 [00:00<00:00, 10.32it/s]\n\r{inner}\x1b[A\n\r      \r\x1b[A\r x\n"
    )
    pieces = read(text.encode(), size)
    assert b"".join(piece.raw for piece in pieces) == text.encode()
    assert [p.name for p in pieces if isinstance(p, Bar)] == ["", "Writing model shards"]
    assert [piece.raw for piece in of(Text, pieces)] == [b" x\n"]


def test_a_bar_is_read_before_its_line_ends() -> None:
    pieces = list(Reader().feed("\r 10%|█         | 1/10 [00:15<02:21, 15.71s/it]".encode()))
    (bar,) = of(Bar, pieces)
    assert isinstance(bar, Bar)
    assert (bar.done, bar.total) == (1, 10)


@pytest.mark.parametrize(
    ("line", "done", "total"),
    [
        ("Loading weights: 100%|██████████| 272/272 [00:00<00:00, 32944.95it/s]", 272, 272),
        ("Tokenizing: 50%|█████     | 1.5k/3M [00:00<00:01, 10 examples/s]", 1500, 3_000_000),
        ("Loading shards: 100% Completed | 1/1 [00:00<00:00,  5.10it/s]", 1, 1),
    ],
)
def test_other_bars(line: str, done: int, total: int) -> None:
    (bar,) = read(f"{line}\n".encode(), 100)
    assert isinstance(bar, Bar)
    assert (bar.done, bar.total) == (done, total)


def test_bar_without_a_total_is_no_text() -> None:
    (piece,) = read(b"Generating train split: 140 examples [00:00, 37285.07 examples/s]\n", 100)
    assert isinstance(piece, Blank)


def test_figure_that_is_no_number_stays() -> None:
    (row,) = read(b"{'loss': 'nan', 'grad_norm': 'inf', 'note': 'x'}\n", 100)
    assert isinstance(row, Row)
    assert math.isnan(row.figures["loss"])
    assert row.figures["grad_norm"] == math.inf
    assert "note" not in row.figures


@pytest.mark.parametrize(
    "line",
    [
        "{'a': 1}",
        "{'loss': __import__('os')}",
        "{'loss': [}",
        "{'loss'}",
        "Traceback (most recent call last):",
        "50% of it",
        "  File 'a.py', line 1",
        "",
    ],
)
def test_what_only_looks_like_it_is_text(line: str) -> None:
    (piece,) = read(f"{line}\n".encode(), 100)
    assert isinstance(piece, Text)


def test_empty_line_after_text_stays_and_after_a_bar_does_not() -> None:
    pieces = read("a\n\nb\n\r 10%|█ | 1/10 [00:15<02:21, 15.71s/it]\n".encode(), 10_000)
    assert [piece.raw for piece in of(Text, pieces)] == [b"a\n", b"\n", b"b\n"]


def test_line_without_an_end_comes_at_the_end() -> None:
    reader = Reader()
    assert list(reader.feed(b"half a li")) == []
    assert list(reader.end()) == [Text(raw=b"half a li")]


def test_bytes_that_are_no_text_are_kept() -> None:
    assert read(b"\xff\xfe\n", 100) == [Text(raw=b"\xff\xfe\n")]
