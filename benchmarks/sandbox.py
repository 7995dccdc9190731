"""What the sandbox costs: `python3 -m nox -s bench -- sandbox`.

Start-up is the wall time of a program that does nothing, in the sandbox and as a bare process; the
two take turns, so that a busy machine slows both. The rate is that of small programs, many at once.
"""

from __future__ import annotations

import subprocess
import time
from statistics import median
from typing import TYPE_CHECKING

from stages.grpo.rewards.code import code_reward
from stages.grpo.rewards.sandbox import (
    NUM_PARALLEL,
    Program,
    check_sandbox,
    compile_cpp,
    cpp_program,
    python_program,
    run,
    run_all,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NUM_STARTS = 50
NUM_PROGRAMS = 200


def time_of(function: Callable[[], object]) -> float:
    """Returns the seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def start_up(program: Program) -> tuple[float, float]:
    """Returns the median milliseconds of the program as a bare process and in the sandbox."""
    bare, boxed = [], []
    for _ in range(NUM_STARTS):
        bare.append(
            time_of(lambda: subprocess.run(program.command, capture_output=True, check=True))
        )
        boxed.append(time_of(lambda: run(program)))
    return 1000 * median(bare), 1000 * median(boxed)


def rates(num_parallel: int) -> dict[str, float]:
    """Returns programs per second by kind of program."""
    source = '#include <cstdio>\nint main() { int n; scanf("%d", &n); printf("%d", n); }'
    binary = compile_cpp(source)
    assert binary is not None
    python = [python_program("print(input())", b"%d" % i) for i in range(NUM_PROGRAMS)]
    cpp = [cpp_program(binary, b"%d" % i) for i in range(NUM_PROGRAMS)]
    cases = [
        {"type": "function_call", "fn_name": "f", "input": [i], "output": i}
        for i in range(NUM_PROGRAMS // 20)
    ]
    info = {"language": "python", "test_cases": cases}
    texts = ["```python\ndef f(n): return n\n```"] * 20

    def call() -> None:
        rewards = code_reward(texts, verification_info=[info] * 20, num_parallel=num_parallel)
        assert rewards == [1.0] * 20

    seconds = {
        "Python, stdin": time_of(lambda: run_all(python, num_parallel)),
        "Python, function call": time_of(call),
        "C++, stdin": time_of(lambda: run_all(cpp, num_parallel)),
    }
    return {name: NUM_PROGRAMS / value for name, value in seconds.items()}


def main() -> None:
    """Prints a table of start-up times and one of rates."""
    check_sandbox("cpp")
    nothing = python_program("")
    bare_python = Program((*nothing.command[:3], "-c", "pass"))
    print("| start-up, median | bare | sandbox | added |\n|---|---:|---:|---:|")
    for name, program in (("true", Program(("/usr/bin/true",))), ("Python", bare_python)):
        bare, boxed = start_up(program)
        print(f"| {name} | {bare:.1f} ms | {boxed:.1f} ms | {boxed - bare:.1f} ms |")
    print("\n| programs/s | kind | rate |\n|---|---|---:|")
    for num_parallel in sorted({1, NUM_PARALLEL, 2 * NUM_PARALLEL}):
        for name, rate in rates(num_parallel).items():
            print(f"| {num_parallel} at once | {name} | {rate:.0f} |")


if __name__ == "__main__":
    main()
