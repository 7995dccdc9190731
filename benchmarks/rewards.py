"""What the pool of verifiers gains: `python3 -m nox -s bench -- rewards`.

Answers are made with a fixed seed: right ones, wrong ones, and in every second set 1 % hostile ones
(towers of powers, factorials, deep brackets). In the sets of groups, as GRPO samples them, 16
completions of a problem put a few answers into words of their own; in the other sets no answer
occurs twice. `serial` is math-verify in a loop, as in Open-R1's accuracy reward, with its own
timeouts, 5 s for each step, in a process that would be killed 20 s after its last answer. `pool` is
our reward.
The ways take turns, so that a busy machine slows both, and the cache is emptied before each.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from statistics import fmean, stdev
from typing import TYPE_CHECKING, TypeVar

import math_verify

from stages.grpo.rewards import verifier
from stages.grpo.rewards.accuracy import _ANSWER, _agrees, accuracy_reward

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

T = TypeVar("T")
Pair = tuple[str, str]
NUM_ANSWERS = 5_000
NUM_ROUNDS = 2
GROUP_SIZE = 16
HOSTILE_SHARE = 0.01
# Name, share of hostile answers, completions per problem.
SETS = (
    ("each once", 0.0, 1),
    ("each once, 1 % hostile", HOSTILE_SHARE, 1),
    ("groups", 0.0, GROUP_SIZE),
    ("groups, 1 % hostile", HOSTILE_SHARE, GROUP_SIZE),
)
SERIAL_LIMIT_S = 20.0
SEED = 20_250_120  # DeepSeek-R1's day


def make_problem(rng: random.Random, kind: int) -> tuple[str, list[str]]:
    """Returns a reference of one of eight kinds, and answers of which the first alone is right."""
    a, b, c = rng.randint(2, 10**6), rng.randint(2, 999), rng.randint(2, 99)
    answers = [
        (
            f"{a + off:,}",
            rf"\frac{{{c * (a + off)}}}{{{c * b}}}",
            rf"\sqrt{{{c * c * b + off}}}",
            rf"\left[{b + off}, {a}\right)",
            rf"\{{{c}, {b + off}, {a}\}}",
            rf"{c + off} + x^2 - {b}x",
            rf"x^2 + {c - b + off}x - {b * c}".replace("+ -", "- "),
            rf"\frac{{{a}{b} + {off}}}{{{10 ** len(str(b))}}}",
        )[kind]
        for off in range(4)
    ]
    reference = (
        f"{a}",
        rf"\frac{{{a}}}{{{b}}}",
        rf"{c}\sqrt{{{b}}}",
        rf"[{b}, {a})",
        rf"\{{{b}, {a}, {c}\}}",
        rf"x^2 - {b}x + {c}",
        rf"(x+{c})(x-{b})",
        rf"{a}.{b}",
    )[kind]
    return f"${reference}$", answers


def make_text(rng: random.Random, answer: str) -> str:
    """Returns the end of a completion, in words that no other has."""
    number = rng.randint(2, 10**9)
    return rng.choice(
        (
            rf"We get {number} first, so the answer is \boxed{{{answer}}}.",
            rf"Adding both sides, $y = {number}$ and therefore $\boxed{{{answer}}}$, as we wanted.",
            rf"**Answer {number}.** \[ \boxed{{{answer}}} \]",
        )
    )


def make_hostile(rng: random.Random, kind: int) -> Pair:
    """Returns an answer that takes for ever, or nearly so, of one of five kinds."""
    a = rng.randint(3, 10**6)
    answer = (
        rf"{a}^{{9^{{9^{{9}}}}}}",
        rf"10^{{10^{{{a}}}}}",
        rf"({a}^{{2}} \cdot 10^{{4}})!",
        "(" * 3000 + str(a) + ")" * 3000,
        rf"(x+{a})^{{10000000}} + \int_0^{{{a}}} e^{{x^{{x}}}} dx",
    )[kind]
    return rf"\boxed{{{answer}}}", rf"$\sqrt{{{a}}}$"


def make_pairs(num: int, hostile_share: float, group_size: int) -> list[Pair]:
    """Returns completions' ends and their references, in an order by chance.

    Three of five answers are right; a share of all is hostile.
    """
    rng = random.Random(SEED)  # noqa: S311
    num_hostile = round(num * hostile_share)
    pairs = [make_hostile(rng, n % 5) for n in range(num_hostile)]
    while len(pairs) < num:
        reference, answers = make_problem(rng, len(pairs) // group_size % 8)
        for _ in range(min(group_size, num - len(pairs))):
            answer = rng.choices(answers, (9, 2, 2, 2))[0]
            pairs.append((make_text(rng, answer), reference))
    rng.shuffle(pairs)
    return pairs


def serial(pairs: list[Pair]) -> list[bool | None]:
    """Returns the verdicts of a loop over the pairs; None where its process had to be killed."""
    verdicts: list[bool | None] = []
    context = multiprocessing.get_context("fork")
    while len(verdicts) < len(pairs):
        ours, theirs = context.Pipe()
        process = context.Process(target=_loop, args=(theirs, pairs[len(verdicts) :]), daemon=True)
        process.start()
        while len(verdicts) < len(pairs) and ours.poll(SERIAL_LIMIT_S):
            verdicts.append(ours.recv())
        process.kill()
        process.join()
        if len(verdicts) < len(pairs):
            verdicts.append(None)
    return verdicts


def _loop(channel: Connection, pairs: list[Pair]) -> None:
    for text, gold in pairs:
        reference = math_verify.parse(gold, extraction_mode="first_match")
        answer = math_verify.parse(text, extraction_config=_ANSWER, extraction_mode="first_match")
        channel.send(math_verify.verify(reference, answer))


def pool(pairs: list[Pair]) -> list[float | None]:
    """Returns the reward's values."""
    return accuracy_reward([text for text, _ in pairs], [gold for _, gold in pairs])


def start_pool() -> None:
    """Empties the cache and starts new workers, which training does once."""
    verifier.stop()
    verifier.compare(_agrees, [(rf"\boxed{{{n}}}", f"{n}") for n in range(16)])


def measure(way: Callable[[list[Pair]], list[T]], pairs: list[Pair]) -> tuple[float, list[T]]:
    """Returns the seconds that a way takes, and its verdicts."""
    start = time.perf_counter()
    verdicts = way(pairs)
    return time.perf_counter() - start, verdicts


def compare_ways(num: int) -> None:
    """Prints how long a loop takes and the pool, and how often they disagree."""
    print("| answers | serial, s | pool, s | serial / pool | other verdicts | without a verdict |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, share, group_size in SETS:
        pairs = make_pairs(num, share, group_size)
        seconds: list[tuple[float, float]] = []
        for _ in range(NUM_ROUNDS):
            slow, expected = measure(serial, pairs)
            start_pool()
            fast, verdicts = measure(pool, pairs)
            seconds.append((slow, fast))
        ratios = [slow / fast for slow, fast in seconds]
        error = stdev(ratios) / len(ratios) ** 0.5
        both = [(a, b) for a, b in zip(expected, verdicts, strict=True) if b is not None]
        print(
            f"| {name} | {min(s for s, _ in seconds):.1f} | {min(s for _, s in seconds):.1f} "
            f"| {fmean(ratios):.1f} ± {error:.1f} | {sum(bool(a) != b for a, b in both)} "
            f"| {num - len(both)} |",
            flush=True,
        )


def compare_numbers_of_workers(num: int) -> None:
    """Prints how long the pool takes with one worker, and with as many as there are CPUs."""
    print("\n| workers | pool, s | one worker / as many |")
    print("|---|---:|---:|")
    pairs = make_pairs(num, 0.0, 1)
    numbers = range(1, len(os.sched_getaffinity(0)) + 1)
    seconds: dict[int, list[float]] = {workers: [] for workers in numbers}
    for _ in range(NUM_ROUNDS):
        for workers in numbers:
            verifier.configure(num_workers=workers)
            start_pool()
            seconds[workers].append(measure(pool, pairs)[0])
    for workers in numbers:
        ratios = [one / many for one, many in zip(seconds[1], seconds[workers], strict=True)]
        error = stdev(ratios) / len(ratios) ** 0.5
        print(f"| {workers} | {min(seconds[workers]):.1f} | {fmean(ratios):.2f} ± {error:.2f} |")


def main() -> None:
    """Prints both tables."""
    num = int(sys.argv[1]) if len(sys.argv) > 1 else NUM_ANSWERS
    print(f"{num} answers, {len(os.sched_getaffinity(0))} CPUs, {NUM_ROUNDS} rounds\n")
    compare_ways(num)
    compare_numbers_of_workers(num)


if __name__ == "__main__":
    main()
