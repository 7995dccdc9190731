"""Log-probabilities of completions, with each prompt computed once for all of its completions.

TRL puts each completion behind a copy of its prompt, and pads all to the longest. Here the
completions of a prompt stand behind one copy of it, one after the other and without padding in
between, at the positions that each would have alone; a mask shows each completion the prompt and
itself. Sums are taken in other orders than TRL's, so that bits differ; values agree to rounding.

Source: Liu et al., "Prefix Grouper" (arXiv 2506.05433), whose two attention calls are one here.

Shapes: B completions, L columns of TRL's batch, T of them for completions; P different prompts, M
columns of their rows; N tokens of all completions together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import pad_sequence
from trl.trainer.utils import selective_log_softmax, selective_log_softmax_and_entropy

if TYPE_CHECKING:
    from collections.abc import Callable

_PROMPT, _PADDING = 0, -1  # where 1, 2, ... are the completions of a prompt


@dataclass(frozen=True, slots=True)
class SharedBatch:
    """A batch with one row per different prompt; all tensors are of int64 but the mask, of bool."""

    input_ids: torch.Tensor  # (P, M)
    attention_mask: torch.Tensor  # (P, 1, M, M): whether the first sees the second
    position_ids: torch.Tensor  # (P, M)
    logits_to_keep: int  # columns at the end, from the prompts' last tokens on
    rows: torch.Tensor  # (N,) where each token is predicted, among the columns that are kept
    columns: torch.Tensor  # (N,)
    labels: torch.Tensor  # (N,) the tokens themselves, in the order of the batch


def share(input_ids: torch.Tensor, attention_mask: torch.Tensor, num_columns: int) -> SharedBatch:
    """Returns the batch with one row per different prompt.

    A completion's last token predicts nothing, and is left out of the rows.

    Args:
        input_ids: (B, L) prompts, padded on the left, and completions, padded on the right.
        attention_mask: (B, L), not 0 where a token is.
        num_columns: T.
    """
    is_token = attention_mask.bool()
    prompts = _select(input_ids[:, :-num_columns], is_token[:, :-num_columns])
    completions = _select(input_ids[:, -num_columns:], is_token[:, -num_columns:])
    row_of = {tuple(prompt): row for row, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    width = max(map(len, row_of))
    pads = [width - len(prompt) for prompt in row_of]
    ids = [[0] * pad + list(prompt) for pad, prompt in zip(pads, row_of, strict=True)]
    positions = [[0] * pad + list(range(width - pad)) for pad in pads]
    parts = [[_PADDING] * pad + [_PROMPT] * (width - pad) for pad in pads]
    rows: list[int] = []
    columns: list[int] = []
    for prompt, completion in zip(prompts, completions, strict=True):
        if not completion:  # all of it is masked
            continue
        row, num_read = row_of[tuple(prompt)], len(completion) - 1
        first = len(ids[row]) - width + 1  # column 0 has the prompt's last token
        rows += [row] * len(completion)
        columns += [0, *range(first, first + num_read)]
        ids[row] += completion[:-1]
        positions[row] += range(len(prompt), len(prompt) + num_read)
        parts[row] += [max(parts[row]) + 1] * num_read
    device = input_ids.device
    part = _stack(parts, _PADDING, device)
    num_all = part.shape[1]
    is_shown = (part[:, :, None] == part[:, None, :]) | (part == _PROMPT)[:, None, :]
    is_before = torch.ones(num_all, num_all, dtype=torch.bool, device=device).tril()
    return SharedBatch(
        input_ids=_stack(ids, 0, device),
        attention_mask=(is_shown & is_before)[:, None],
        position_ids=_stack(positions, 0, device),
        logits_to_keep=num_all - width + 1,
        rows=torch.tensor(rows, dtype=torch.int64, device=device),
        columns=torch.tensor(columns, dtype=torch.int64, device=device),
        labels=input_ids[:, -num_columns:][is_token[:, -num_columns:]],
    )


def measure_logps(
    model: Callable[..., Any],
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    num_columns: int,
    temperature: float,
    *,
    compute_entropy: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns (B, T) log-probabilities of the completions' tokens and, if asked for, entropies.

    Both are in nats, of the model's type, and 0 at padding; entropies have no gradient. The
    arguments are those of `share`.
    """
    batch = share(input_ids, attention_mask, num_columns)
    output = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        logits_to_keep=batch.logits_to_keep,
        use_cache=False,
    )
    logits = output.logits[batch.rows, batch.columns]
    is_token = attention_mask[:, -num_columns:].bool()

    def spread(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(is_token.shape).masked_scatter(is_token, values)

    if not len(batch.labels):  # every completion is masked: values without one, and gradients of 0
        nothing = spread(logits.sum(-1))
        return nothing, nothing.detach() if compute_entropy else None
    if not compute_entropy:
        return spread(selective_log_softmax(logits, batch.labels, temperature)), None
    logps, entropies = selective_log_softmax_and_entropy(
        logits, batch.labels, entropy_requires_grad=False, temperature=temperature
    )
    return spread(logps), spread(entropies)


def _select(ids: torch.Tensor, is_token: torch.Tensor) -> list[list[int]]:
    return [row[kept].tolist() for row, kept in zip(ids, is_token, strict=True)]


def _stack(rows: list[list[int]], padding: int, device: torch.device) -> torch.Tensor:
    tensors = [torch.tensor(row, device=device) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=padding)
