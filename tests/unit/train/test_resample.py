"""Groups without a difference are found, and replaced by others, in all processes alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.grpo.resample import Filled, draw, fill, find_informative, take

if TYPE_CHECKING:
    from collections.abc import Callable

NAN = float("nan")
PAD = 9


def test_groups_whose_rewards_differ_are_informative() -> None:
    groups = [
        [[1.0, 0.0], [1.0, 0.0]],  # the same
        [[1.0, 0.0], [0.0, 0.0]],  # one is right
        [[0.0, 1.0], [0.25, 0.0]],  # other rewards, the same sum
        [[0.3, 0.0], [0.1 + 0.2, 0.0]],  # the same but for rounding
        [[NAN, 1.0], [0.0, 1.0]],  # a missing verdict is no 0
        [[NAN, NAN], [1.0, 1.0]],  # one without any is none of the group's
        [[NAN, NAN], [NAN, NAN]],
        [[NAN, 1.0], [1.0, 1.0]],
    ]
    scores = torch.tensor(groups).view(-1, 2)
    found = find_informative(scores, torch.tensor([1.0, 0.25]), 2)
    assert found.tolist() == [False, True, False, False, False, False, False, True]


def test_problems_are_drawn_by_seed_and_moment() -> None:
    first = draw(100, 8, 0, 3, 0, 1)
    assert first == draw(100, 8, 0, 3, 0, 1)
    assert len({*first}) == 8
    others = [draw(100, 8, 1, 3, 0, 1), draw(100, 8, 0, 4, 0, 1), draw(100, 8, 0, 3, 1, 1)]
    others += [draw(100, 8, 0, 3, 0, 2)]
    assert all(other != first for other in others)
    assert sorted(draw(8, 8, 0, 1)) == list(range(8))
    assert {*draw(2, 50, 0, 1)} == {0, 1}, "fewer problems than groups: some come again"


def make_part(number: int, num_groups: int, width: int, prompt_width: int = 2) -> dict[str, Any]:
    """Returns a batch of pairs whose rows have 100 x part + group, `width` times."""
    rows = [100 * number + group for group in range(num_groups) for _ in range(2)]
    ids = torch.tensor(rows).unsqueeze(1)
    return {
        "prompt_ids": ids.expand(-1, prompt_width),
        "prompt_mask": torch.ones(len(rows), prompt_width, dtype=torch.int),
        "completion_ids": ids.expand(-1, width),
        "completion_mask": torch.ones(len(rows), width, dtype=torch.int),
        "advantages": ids.squeeze(1).float(),
        "ref_per_token_logps": ids.expand(-1, width).float(),
        "num_items_in_batch": torch.tensor(len(rows) * width),
    }


def test_parts_are_padded_to_the_widest() -> None:
    parts = [make_part(0, 2, 3), make_part(1, 2, 4, prompt_width=1)]
    taken = take(parts, [(0, 0), (1, 1)], 2, PAD)
    assert taken["prompt_ids"].tolist() == [[0, 0]] * 2 + [[PAD, 101]] * 2
    assert taken["prompt_mask"].tolist() == [[1, 1]] * 2 + [[0, 1]] * 2
    assert taken["completion_ids"].tolist() == [[0, 0, 0, PAD]] * 2 + [[101] * 4] * 2
    assert taken["completion_mask"].tolist() == [[1, 1, 1, 0]] * 2 + [[1] * 4] * 2
    assert taken["ref_per_token_logps"].tolist() == [[0.0] * 4] * 2 + [[101.0] * 4] * 2
    assert taken["advantages"].tolist() == [0.0, 0.0, 101.0, 101.0]


def fill_with(flags: list[list[list[bool]]], rank: int, max_num: int = 10) -> Filled:
    """Returns the fill of a rank's first batch, where batches have these flags by process."""

    def sample(batch: int, num: int) -> tuple[dict[str, Any], torch.Tensor]:
        assert [len(process) for process in flags[batch]] == [num] * len(flags[batch])
        return make_part(batch, num, 2), torch.tensor(flags[batch])

    first = torch.tensor(flags[0])
    return fill(
        make_part(0, first.shape[1], 2),
        first,
        sample,
        max_num_gen_batches=max_num,
        num_generations=2,
        rank=rank,
        pad_token_id=PAD,
    )


def groups_of(filled: Filled) -> list[int]:
    return [int(row[0]) for row in filled.output["prompt_ids"][::2]]


def test_full_batch_is_as_it_was() -> None:
    filled = fill_with([[[True, True]]], 0)
    assert (filled.resampled, filled.unfilled) == (0.0, 0.0)
    assert groups_of(filled) == [0, 1]


def test_gaps_are_filled_in_their_places() -> None:
    flags = [[[False, True, False, True]], [[False, True]], [[True]]]
    filled = fill_with(flags, 0)
    assert groups_of(filled) == [101, 1, 200, 3]
    assert (filled.resampled, filled.unfilled) == (3 / 4, 0.0)


def test_limit_leaves_gaps_and_counts_them() -> None:
    filled = fill_with([[[False, True, False, True]], [[False, True]], [[True]]], 0, max_num=2)
    assert groups_of(filled) == [101, 1, 2, 3]
    assert (filled.resampled, filled.unfilled) == (2 / 4, 1 / 4)


def test_processes_fill_their_own_gaps_together() -> None:
    """The one that lacks most says how many are sampled; what the other has too many is dropped."""
    flags = [[[False, False, True], [True, False, True]], [[True, False], [True, True]]]
    flags += [[[True], [False]]]
    one, two = fill_with(flags, 0), fill_with(flags, 1)
    assert groups_of(one) == [100, 200, 2]
    assert groups_of(two) == [0, 100, 2]
    assert one.resampled == two.resampled == 3 / 3
    assert one.unfilled == two.unfilled == 0.0


@settings(max_examples=60)
@given(st.data())
def test_only_gaps_are_replaced_and_only_by_informative_groups(data: st.DataObject) -> None:
    num_groups, num_processes = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    max_num = data.draw(st.integers(2, 5))
    rank = data.draw(st.integers(0, num_processes - 1))
    seen: list[list[list[bool]]] = []

    def flags_of(num: int) -> torch.Tensor:
        row = st.lists(st.booleans(), min_size=num, max_size=num)
        seen.append(data.draw(st.lists(row, min_size=num_processes, max_size=num_processes)))
        return torch.tensor(seen[-1])

    sample: Callable[[int, int], tuple[dict[str, Any], torch.Tensor]] = lambda batch, num: (  # noqa: E731
        make_part(batch, num, 1 + batch),
        flags_of(num),
    )
    filled = fill(
        make_part(0, num_groups, 1),
        flags_of(num_groups),
        sample,
        max_num_gen_batches=max_num,
        num_generations=2,
        rank=rank,
        pad_token_id=PAD,
    )
    groups = groups_of(filled)
    assert len(seen) <= max_num
    assert len({*groups}) == num_groups, "no group is taken twice"
    for place, group in enumerate(groups):
        if seen[0][rank][place]:
            assert group == place
        elif group != place:
            assert seen[group // 100][rank][group % 100]
        else:
            assert filled.unfilled > 0
    if filled.unfilled > 0:
        assert len(seen) == max_num
    assert set(filled.output["completion_mask"].sum(dim=1).tolist()) <= set(range(1, 1 + max_num))
