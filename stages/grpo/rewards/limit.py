"""What becomes of completions that a reward cannot score: left out, counted, and limited.

TRL leaves a reward of None out of a completion's sum. There are two reasons for one:

1. The problem has no value in a column that the reward reads: with problems of several kinds, each
   reward concerns its own. Such rows are not counted, and do not reach a reward that needs the
   column.
2. The reward gave up: a reference that cannot be parsed, a verifier killed at its limit. A few are
   the price of verification; more than a share says that the problems or the limits are wrong, and
   stop the run before it learns from what is left.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stages.grpo.rewards.completions import Reward

# What TRL passes besides the data set's columns.
_FROM_TRL = {"prompts", "completions", "completion_ids"}
MIN_COUNTED = 100  # completions before a share means something


def find_columns(reward: Reward) -> list[str]:
    """Returns the data set's columns without which the reward can score nothing."""
    parameters = inspect.signature(reward).parameters
    return [name for name in _named(reward) if parameters[name].default is inspect.Parameter.empty]


def _named(reward: Reward) -> list[str]:
    """Returns what the reward reads by name, but for what TRL gives it."""
    return [
        name
        for name, parameter in inspect.signature(reward).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD and name not in _FROM_TRL
    ]


def check_columns(name: str, reward: Reward, rows: Sequence[dict[str, Any]]) -> None:
    """Checks that some row has all columns that the reward needs.

    Raises:
        ValueError: none has; names reward and columns.
    """
    columns = find_columns(reward)
    if any(all(row.get(column) is not None for column in columns) for row in rows):
        return
    raise ValueError(
        f"grpo.rewards.{name} needs {' and '.join(columns)} in the rows of rl.jsonl, and none of "
        f"the {len(rows)} has it: name it in the `columns` of a source of problems that have it, "
        f"or drop the reward"
    )


def limit_unscorable(name: str, reward: Reward, max_rate: float) -> Reward:
    """Returns the reward for TRL, under its name, which stops where too much cannot be scored.

    It logs `unscorable/<name>`: of a batch's completions, the share that it should have scored and
    could not, in [0, 1]. The limit is on the share of those that it should have scored, since the
    process started and of at least MIN_COUNTED.

    Args:
        name: under which params.yaml gives the reward its weight.
        reward: returns a float or None per completion.
        max_rate: the largest share of completions that may be None, in [0, 1].
    """
    needed, named = find_columns(reward), _named(reward)
    num_counted = num_unscorable = 0

    @functools.wraps(reward)
    def limited(
        completions: Sequence[Any], log_metric: Callable[[str, float], None], **given: Any
    ) -> list[float | None]:
        nonlocal num_counted, num_unscorable

        def has(i: int, columns: list[str]) -> bool:
            return all(given[column][i] is not None for column in columns if column in given)

        concerned = [i for i in range(len(completions)) if has(i, needed)]
        chosen = {
            key: [value[i] for i in concerned] if isinstance(value, list) else value
            for key, value in given.items()
        }
        found = (
            reward(completions=[completions[i] for i in concerned], **chosen) if concerned else []
        )
        scores = dict(zip(concerned, found, strict=True))
        counted = [score for i, score in scores.items() if score is not None or has(i, named)]
        missing = counted.count(None)
        num_counted += len(counted)
        num_unscorable += missing
        log_metric(f"unscorable/{name}", missing / len(completions))
        if num_unscorable > max_rate * max(num_counted, MIN_COUNTED):
            raise ValueError(
                f"grpo.rewards.{name} could not score {num_unscorable} of {num_counted} "
                f"completions, more than grpo.max_unscorable_rate = {max_rate} of at least "
                f"{MIN_COUNTED}: correct the references, raise the limits in grpo.reward_args, or "
                f"raise max_unscorable_rate"
            )
        return [scores.get(i) for i in range(len(completions))]

    limited.__name__ = name  # TRL's name for its curve
    return limited
