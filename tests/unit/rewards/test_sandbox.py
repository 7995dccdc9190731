"""The sandbox as a way to run programs: results, limits, order, and what it says if it cannot."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.grpo.rewards import contest, sandbox
from stages.grpo.rewards.sandbox import (
    Limits,
    Program,
    check_sandbox,
    compile_cpp,
    cpp_program,
    map_parallel,
    python_program,
    run,
    run_all,
)

pytestmark = pytest.mark.sandbox


@pytest.mark.parametrize("language", ["python", "cpp"])
def test_this_machine_can_run(language: str) -> None:
    check_sandbox(language)


def test_wall_time_follows_from_cpu_time() -> None:
    assert Limits.of_cpu(5.0) == sandbox.DEFAULT_LIMITS
    assert (Limits.of_cpu(10.0).wall_s, contest._CHECKER_LIMITS.wall_s) == (110.0, 110.0)
    assert Limits.of_cpu(1.0, 7) == Limits(cpu_s=1.0, wall_s=20.0, memory_bytes=7)


def test_output_status_and_errors_come_back() -> None:
    source = "import sys\nprint(input()[::-1])\nprint('oh', file=sys.stderr)\nexit(3)"
    result = run(python_program(source, b"abc\n"))
    assert (result.reason, result.status) == ("exit", 3)
    assert (result.stdout, result.stderr) == (b"cba\n", b"oh\n")
    assert 0 < result.cpu_s < 1


def test_files_and_arguments() -> None:
    source = "import sys\nprint(sys.argv, open('/box/a.txt').read())"
    program = python_program(source, arguments=("x", "y z"), files=(("a.txt", b"text"),))
    assert run(program).stdout == b"['main.py', 'x', 'y z'] text\n"


def test_program_is_the_main_module_and_has_no_names_but_its_own() -> None:
    source = "print(__name__, sorted(k for k in globals() if k[0] != '_'))\nsys"
    result = run(python_program(source))
    assert result.stdout == b"__main__ []\n"
    assert b"NameError: name 'sys' is not defined" in result.stderr


def test_order_of_sets_is_the_same_in_every_run() -> None:
    source = "print({str(i) for i in range(50)})"
    assert len({result.stdout for result in run_all([python_program(source)] * 4)}) == 1


def test_text_that_is_no_utf8_is_a_program_too() -> None:
    assert run(python_program("print('\ud800')")).stdout == b"?\n"
    assert run(python_program("print(1)\0")).reason == "exit"


def test_large_input_is_read_and_large_output_kept() -> None:
    data = b"x" * 3_000_000
    result = run(python_program("print(open(0).read(), end='')", data))
    assert (result.reason, result.stdout) == ("ok", data)


def test_deep_recursion_works() -> None:
    source = (
        "import sys\nsys.setrecursionlimit(10**6)\n"
        "def depth(n): return 0 if n == 0 else 1 + depth(n - 1)\nprint(depth(50_000))"
    )
    assert run(python_program(source)).stdout == b"50000\n"


def test_cpu_time_is_limited() -> None:
    result = run(python_program("while True: pass", limits=Limits(cpu_s=1.0)))
    assert result.reason == "cpu"
    assert 0.9 < result.cpu_s < 2.0


def test_cpu_time_of_children_counts() -> None:
    source = (
        "import os, time\n"
        "for _ in range(2):\n"
        "    if os.fork() == 0:\n"
        "        while time.process_time() < 0.4: pass\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )
    result = run(python_program(source, limits=Limits(cpu_s=0.6)))
    assert (result.reason, result.status) == ("cpu", 0)  # each of them is below it


def test_signal_to_stop_does_not_outlast_the_limit() -> None:
    source = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    result = run(python_program(source, limits=Limits(cpu_s=1.0)))
    assert result.reason == "cpu"
    assert result.cpu_s < 3.0


def test_wall_time_is_the_last_resort() -> None:
    start = time.monotonic()
    result = run(python_program("import time\ntime.sleep(60)", limits=Limits(wall_s=0.3)))
    assert result.reason == "wall"
    assert time.monotonic() - start < 20


def test_death_by_signal() -> None:
    result = run(python_program("import os\nos.kill(os.getpid(), 11)"))
    assert (result.reason, result.status) == ("signal", 139)


def test_cpp_is_compiled_once_and_run_for_each_input() -> None:
    source = """
    #include <cstdio>
    int main() { int n; scanf("%d", &n); printf("%d\\n", n * n); }
    """
    binary = compile_cpp(source)
    assert binary is not None
    programs = [cpp_program(binary, b"%d" % n) for n in range(5)]
    assert [result.stdout for result in run_all(programs)] == [b"%d\n" % n**2 for n in range(5)]


def test_cpp_that_does_not_compile_has_no_binary() -> None:
    assert compile_cpp("int main() { return x; }") is None


@pytest.mark.parametrize("num_parallel", [0, -1])
def test_number_of_sandboxes_must_be_positive(num_parallel: int) -> None:
    with pytest.raises(ValueError, match=f"num_parallel must be >= 1, not {num_parallel}"):
        run_all([], num_parallel)


def test_first_error_ends_a_map() -> None:
    def fail(number: int) -> int:
        return 1 // number

    with pytest.raises(ZeroDivisionError):
        map_parallel(fail, [1, 0, 1], 2)


def test_unknown_language_is_an_error() -> None:
    with pytest.raises(ValueError, match="one of python, cpp, not 'java'"):
        check_sandbox("java")


def test_missing_tool_is_an_error_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sandbox, "_BIN", "/nowhere")
    with pytest.raises(ValueError, match=r"need /nowhere/bwrap, .*apt-get install bubblewrap"):
        check_sandbox("python")
    for tool in ("bwrap", "prlimit", "setpriv"):
        (tmp_path / tool).touch()
    monkeypatch.setattr(sandbox, "_BIN", str(tmp_path))
    with pytest.raises(ValueError, match=r"programs in cpp need .*/g\+\+, .*apt-get install g\+\+"):
        check_sandbox("cpp")


def test_other_machine_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(ValueError, match="no seccomp filter for machine 'riscv64'"):
        check_sandbox("python")


def test_sandbox_that_cannot_be_made_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    # As where user namespaces are not allowed: bwrap itself ends, and nothing was run.
    monkeypatch.setattr(sandbox, "_mounts", lambda: ("--ro-bind", "/nowhere", "/usr"))
    with pytest.raises(RuntimeError, match="bwrap: Can't find source path /nowhere"):
        run(Program(("/usr/bin/true",)))
    with pytest.raises(ValueError, match=r"cannot make a sandbox here: bwrap: .*user namespaces"):
        check_sandbox("python")


def test_interpreter_in_a_closed_home_is_replaced_by_the_systems(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find = sandbox._interpreter.__wrapped__
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    own = home / "bin" / "python3.11"
    own.touch()
    monkeypatch.setattr(sys, "base_prefix", str(home))
    monkeypatch.setattr(sandbox, "_is_reachable", lambda _: True)
    assert find() == (str(own), ("--ro-bind", str(home), str(home)))
    monkeypatch.setattr(sandbox, "_is_reachable", lambda _: False)
    if Path("/usr/bin/python3.11").exists():
        assert find() == ("/usr/bin/python3.11", ())
    else:
        with pytest.raises(ValueError, match="install python3.11 outside of root's home"):
            find()


def test_limits_above_the_hosts_are_the_hosts() -> None:
    source = "print(open('/tmp/x', 'wb', buffering=0).write(bytes(5000)))"
    assert run(python_program(source)).stdout == b"5000\n"
    script = (
        "import resource\n"
        "from stages.grpo.rewards.sandbox import python_program, run\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"print(run(python_program({source!r})).stdout)\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "b'4096\\n'\n"
