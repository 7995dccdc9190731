"""Dynamic sampling: a batch is filled up with groups from which something can be learnt.

Where all completions of a group are worth the same, all advantages are 0. DAPO (arXiv:2503.14476,
section 3.2, equation 11) samples until the batch is full of others. Deviations:

1. A group counts if its completions' summed rewards differ, which the advantages are made of;
   DAPO asks whether some of its answers are right and others wrong.
2. What is sampled besides are as many groups as the process with most gaps lacks, of problems
   drawn from all by the seed and the step; DAPO takes the epoch's next ones, and a whole batch.
   So nothing is to be saved: a run that goes on from a checkpoint draws the same.
3. Where gaps are left after `max_num_gen_batches` batches, their groups stay, teach nothing, and
   are counted; DAPO's code stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad

from stages._contract.seeding import derive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Output = dict[str, Any]  # what TRL's _generate_and_score_completions returns: tensors

_SAME = 1e-6  # rewards that differ by less are equal but for rounding


@dataclass(frozen=True, slots=True)
class Filled:
    """A process's batch, and how it came to be.

    resampled: groups sampled besides, per group of the batch; unfilled: the share of the batch's
    groups without a difference, in [0, 1], over all processes.
    """

    output: Output
    resampled: float
    unfilled: float


def find_informative(
    scores: torch.Tensor, weights: torch.Tensor, num_generations: int
) -> torch.Tensor:
    """Returns for each group whether its completions' rewards differ, as bools of shape [N].

    Args:
        scores: of each completion by each reward, shape [N x G, F]; NaN where there is no verdict.
            A completion without any is none of its group's.
        weights: of the rewards, shape [F].
        num_generations: G, the completions of a group, which follow one another.
    """
    missing = scores.isnan().all(dim=1)
    rewards = (scores.double() * weights.double().to(scores.device)).nansum(dim=1)
    highest = rewards.masked_fill(missing, -torch.inf).view(-1, num_generations).amax(dim=1)
    lowest = rewards.masked_fill(missing, torch.inf).view(-1, num_generations).amin(dim=1)
    return highest - lowest > _SAME


def draw(num_problems: int, num: int, seed: int, *moment: int) -> list[int]:
    """Returns `num` indices of problems, all different if there are as many, for the moment."""
    random = Random(derive(seed, "dynamic_sampling", *moment))  # noqa: S311 - no secret
    everything = range(num_problems)
    return (
        random.sample(everything, num) if num <= num_problems else random.choices(everything, k=num)
    )


def fill(
    first: Output,
    informative: torch.Tensor,
    sample: Callable[[int, int], tuple[Output, torch.Tensor]],
    *,
    max_num_gen_batches: int,
    num_generations: int,
    rank: int,
    pad_token_id: int,
) -> Filled:
    """Returns the batch with other groups in the place of those without a difference.

    All processes call it, see the same flags, and thus sample equally often.

    Args:
        first: this process's part of the batch, of whole groups.
        informative: which groups differ, by process; shape [processes, groups of each].
        sample: takes the number of the batch, from 1, and of groups per process, and returns
            this process's part and the flags of all.
        max_num_gen_batches: batches sampled at most, the first one included.
        num_generations: completions of a group.
        rank: of this process.
        pad_token_id: what shorter prompts and completions are padded with.
    """
    gaps = [[i for i, good in enumerate(flags) if not good] for flags in informative.tolist()]
    num_processes, num_groups = informative.shape
    chosen = [(0, group) for group in range(num_groups)]
    parts, num_sampled = [first], 0
    while any(gaps) and len(parts) < max_num_gen_batches:
        num = max(map(len, gaps))
        output, found = sample(len(parts), num)
        for process, flags in enumerate(found.tolist()):
            good = [group for group, flag in enumerate(flags) if flag]
            for group, gap in zip(good, tuple(gaps[process]), strict=False):
                gaps[process].remove(gap)
                if process == rank:
                    chosen[gap] = (len(parts), group)
        parts.append(output)
        num_sampled += num
    merged = first if len(parts) == 1 else take(parts, chosen, num_generations, pad_token_id)
    unfilled = sum(map(len, gaps)) / (num_processes * num_groups)
    return Filled(merged, num_sampled / num_groups, unfilled)


def take(
    parts: Sequence[Output], chosen: Sequence[tuple[int, int]], size: int, pad_token_id: int
) -> Output:
    """Returns a batch of the chosen groups, padded to the widest: prompts on the left, as TRL does.

    Scalars, which speak of a whole batch, are the first part's.

    Args:
        parts: batches of whole groups.
        chosen: for each group of the result, its part and its place there.
        size: completions of a group.
        pad_token_id: of token ids; anything else is padded with 0.
    """

    def merge(key: str) -> torch.Tensor:
        pieces = [parts[part][key][group * size : (group + 1) * size] for part, group in chosen]
        if pieces[0].dim() == 1:
            return torch.cat(pieces)
        width = max(piece.shape[1] for piece in pieces)
        value = pad_token_id if key.endswith("_ids") else 0
        missing = [width - piece.shape[1] for piece in pieces]
        sides = [(num, 0) if key.startswith("prompt_") else (0, num) for num in missing]
        padded = [pad(x, side, value=value) for x, side in zip(pieces, sides, strict=True)]
        return torch.cat(padded)

    first = parts[0]
    return {key: merge(key) if value.dim() else value for key, value in first.items()}
