"""Attacks on the sandbox and on the rewards; after each, the host is as it was."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.grpo.rewards import code, sandbox
from stages.grpo.rewards.code import code_reward
from stages.grpo.rewards.sandbox import Limits, Result, python_program, run
from tests.proc import read_proc

pytestmark = pytest.mark.sandbox

MIB = 1 << 20
TMP = "/tmp"  # noqa: S108 - the sandbox's
LIMITS = Limits(cpu_s=2.0, memory_bytes=256 * MIB, file_bytes=8 * MIB)
SYSTEM_PYTHON = Path("/usr/bin/python3.11")
SECRET = "correct-horse-battery-staple"  # noqa: S105 - the test's
DAEMON = "/usr/bin/sleep", "8642.75"  # a command line that nothing else has


def attack(source: str, limits: Limits = LIMITS, stdin: bytes = b"") -> Result:
    return run(python_program(source, stdin, limits))


def reward(source: str, *tests: tuple[str, str], function: str | None = None) -> float | None:
    kind = "function_call" if function else "stdin_stdout"
    cases = [{"type": kind, "fn_name": function, "input": a, "output": b} for a, b in tests]
    info = {"language": "python", "test_cases": cases}
    return code_reward([f"```python\n{source}\n```"], verification_info=[info])[0]


def find_daemons() -> list[int]:
    """Returns the ids, on the host, of the processes that run `DAEMON` in any pid namespace."""
    line = b"".join(word.encode() + b"\0" for word in DAEMON)
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes() == line:
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def wait_until(is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


FORK_BOMB = """
import os, time
num = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        num += 1
except BlockingIOError:
    print(num, flush=True)
"""


def test_fork_bomb_ends_at_the_limit() -> None:
    result = attack(FORK_BOMB)
    assert (result.reason, result.stdout) == ("ok", b"15\n")  # and the program itself


@pytest.mark.skipif(
    os.geteuid() != 0 or not SYSTEM_PYTHON.exists(),
    reason="needs root, to be somebody else too, and an interpreter that everybody can run",
)
def test_fork_bomb_ends_at_the_limit_on_a_host_that_is_not_root() -> None:
    script = (
        "import sys, types\n"
        "module = sys.modules['sandbox'] = types.ModuleType('sandbox')\n"
        f"exec(compile(sys.stdin.read(), {sandbox.__file__!r}, 'exec'), module.__dict__)\n"
        f"print(module.run(module.python_program({FORK_BOMB!r})).stdout)\n"
    )
    ids = ("--reuid=65534", "--regid=65534", "--clear-groups")
    done = subprocess.run(
        ["setpriv", *ids, str(SYSTEM_PYTHON), "-c", script],
        input=Path(sandbox.__file__).read_text(encoding="utf-8"),
        capture_output=True,
        check=False,
        text=True,
        cwd="/",
    )
    assert (done.stdout, done.stderr) == ("b'15\\n'\n", "")


def test_fork_bomb_that_forks_for_ever_is_killed() -> None:
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"
    result = attack(bomb, Limits(cpu_s=1.0, wall_s=1.5))
    assert result.reason in {"cpu", "wall"}


def test_threads_are_processes_to_the_limit() -> None:
    result = attack(
        "import threading, time\n"
        "num = 0\n"
        "try:\n"
        "    while True:\n"
        "        threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        "        num += 1\n"
        "except RuntimeError:\n"
        "    print(num, flush=True)\n"
        "import os; os._exit(0)\n",
        Limits(memory_bytes=8192 * MIB),
    )
    assert result.stdout == b"15\n"


def test_memory_bomb_ends_at_the_limit() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    result = attack("data = []\nwhile True: data.append(bytearray(1 << 20))")
    assert result.reason == "exit"
    assert b"MemoryError" in result.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert after <= max(before, LIMITS.memory_bytes // 1024)


@pytest.mark.parametrize(
    "call",
    [
        "os.memfd_create('x')",
        "libc.shmget(0, 1 << 20, 0o1777)",
        "libc.msgget(0, 0o1777)",
        "libc.semget(0, 1, 0o1777)",
        "libc.unshare(0x10000000)",
        "libc.ptrace(16, 1, 0, 0)",
        "libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0)",
        "libc.syscall(425, 8, 0)",
        "socket.socket(socket.AF_INET)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
        "os.setuid(0)",
        "os.chroot('/tmp')",
    ],
)
def test_calls_that_get_around_limits_fail(call: str) -> None:
    result = attack(
        "import ctypes, os, socket\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        f"try: print(({call}), ctypes.get_errno())\n"
        "except OSError as error: print(-1, error.errno)\n"
    )
    assert result.stdout in {b"-1 1\n", b"-1 22\n"}, result  # EPERM; EINVAL: there is no such user


@pytest.mark.parametrize("folder", [TMP, f"{TMP}/more", "/", "/box", "/dev", "/usr/lib"])
def test_disk_cannot_be_filled(folder: str) -> None:
    result = attack(
        "import os\n"
        "num = 0\n"
        "try:\n"
        f"    os.makedirs({folder!r}, exist_ok=True)\n"
        "    for i in range(100):\n"
        f"        with open(f'{folder}/rederive-attack{{i}}', 'wb', buffering=0) as file:\n"
        "            num += file.write(bytes(1 << 20))\n"
        "except OSError as error:\n"
        "    print(num, error.errno)\n"
    )
    num, errno = map(int, result.stdout.split())
    assert num <= (LIMITS.file_bytes if folder.startswith(TMP) else 0)
    assert errno in {28, 30}  # no space; read-only
    assert not any(Path(folder).glob("rederive-attack*"))


def test_one_file_cannot_be_longer_than_the_limit() -> None:
    result = attack("file = open('/tmp/x', 'wb')\nfile.truncate(1 << 40)")
    assert result.reason in {"exit", "signal"}


def test_host_cannot_be_reached_by_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        result = attack(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 5)")
        assert result.reason == "exit"
        with pytest.raises(TimeoutError):
            server.accept()


def test_abstract_sockets_of_the_host_are_not_seen() -> None:
    name = f"\0rederive-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        source = f"import socket\nsocket.socket(socket.AF_UNIX).connect({name!r})"
        assert b"ConnectionRefusedError" in attack(source).stderr


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/etc/passwd",
        "/root",
        "/home",
        "/proc/1/environ",
        "/sys",
        "/dev/sda",
        "/work",
    ],
)
def test_files_of_the_host_are_not_there(path: str) -> None:
    result = attack(f"import os\nprint(os.stat({path!r}))")
    assert b"FileNotFoundError" in result.stderr


def test_environment_of_the_host_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDERIVE_SECRET", SECRET)
    result = attack(
        "import glob, os\n"
        "print(dict(os.environ), os.getppid())\n"
        "for path in [f'/proc/{os.getppid()}/environ', *glob.glob('/proc/*/environ')]:\n"
        "    try: print(open(path).read())\n"
        "    except OSError as error: print(error.errno)\n"
    )
    assert result.reason == "ok"
    assert SECRET not in result.stdout.decode()
    assert result.stdout.endswith(b" 1\n2\n")  # its parent is pid 1; there is no /proc


def test_descriptors_of_the_host_are_closed(tmp_path: Path) -> None:
    file = (tmp_path / "results").open("w")
    os.set_inheritable(file.fileno(), True)
    result = attack(
        "import os\n"
        "for fd in range(3, 256):\n"
        "    try: print(os.write(fd, b'forged'))\n"
        "    except OSError: pass\n"
        "try: os.write(0, b'forged')\n"
        "except OSError as error: print(error.errno)\n"
    )
    file.close()
    assert result.stdout == b"1\n"  # stdin is sealed
    assert (tmp_path / "results").read_text() == ""


@pytest.mark.parametrize("target", ["os.getppid()", "1", "-1", "0", str(os.getpid())])
def test_host_cannot_be_killed(target: str) -> None:
    received: list[int] = []
    handler = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    other = subprocess.Popen(["/usr/bin/sleep", "60"])  # in the group that bwrap started in
    try:
        for number in ("SIGTERM", "SIGKILL"):
            attack(f"import os, signal\nos.kill({target}, signal.{number})")
        attack("import os, signal\nos.killpg(os.getpgid(0), signal.SIGTERM)")
        assert other.poll() is None
        assert received == []
    finally:
        signal.signal(signal.SIGTERM, handler)
        other.kill()
        other.wait()


def test_symbolic_link_to_a_host_file_leads_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    result = attack(
        f"import os\nos.symlink({str(secret)!r}, '/tmp/link')\n"
        "try: print(open('/tmp/link').read())\n"
        "except OSError as error: print(error.errno)\n"
        "os.symlink('/tmp/..', '/tmp/up')\nprint(sorted(os.listdir('/tmp/up')))\n"
    )
    first, second = result.stdout.decode().splitlines()
    assert first == "2"
    assert not {"etc", "proc", "root", "home"} & set(json.loads(second.replace("'", '"')))
    assert secret.read_text() == SECRET


def test_interpreter_cannot_be_changed() -> None:
    before = Path(os.__file__).read_bytes()
    result = attack(
        "import os, json\n"
        "for path in (os.__file__, json.__file__, '/usr/bin/sh', '/box/main.py'):\n"
        "    try: os.chmod(path, 0o777)\n"
        "    except OSError as error: print(error.errno)\n"
        "    try: open(path, 'ab')\n"
        "    except OSError as error: print(error.errno)\n"
    )
    assert set(result.stdout.split()) <= {b"30", b"13"}  # read-only; not ours
    assert len(result.stdout.split()) == 8
    assert Path(os.__file__).read_bytes() == before


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_endless_output_is_cut_and_the_program_killed(stream: str) -> None:
    limits = Limits(cpu_s=20.0, output_bytes=MIB)
    start = time.monotonic()
    result = attack(f"import sys\nwhile True: sys.{stream}.write('x' * 10000)", limits)
    assert result.reason == "output"
    assert len(result.stdout) == (MIB if stream == "stdout" else 0)
    assert len(result.stderr) <= 4096
    assert time.monotonic() - start < 40


def test_huge_stderr_below_the_limit_is_no_fault() -> None:
    result = attack("import sys\nsys.stderr.write('x' * 5_000_000 + 'end')\nprint('fine')")
    assert (result.reason, result.stdout) == ("ok", b"fine\n")
    assert result.stderr == b"x" * 4093 + b"end"


@pytest.mark.parametrize(
    "source",
    [
        f"import subprocess\nsubprocess.Popen({DAEMON!r})",
        # A daemon as in the book: forked twice, in a session of its own, all streams closed.
        (
            "import os\n"
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            "    if os.fork() == 0:\n"
            "        for fd in range(3): os.close(fd)\n"
            f"        os.execv({DAEMON[0]!r}, {DAEMON!r})\n"
            "    os._exit(0)\n"
            "os.wait()\n"
        ),
        (
            f"import os, signal\nif os.fork() == 0:\n"
            "    for n in (1, 2, 13, 15, 17, 18): signal.signal(n, signal.SIG_IGN)\n"
            f"    os.execv({DAEMON[0]!r}, {DAEMON!r})\n"
        ),
    ],
)
def test_nothing_runs_on_in_the_background(source: str) -> None:
    result = attack(source)
    assert result.reason == "ok"
    assert find_daemons() == []


def test_nothing_runs_on_after_the_limit_of_wall_time() -> None:
    source = f"import os, subprocess\nsubprocess.Popen({DAEMON!r})\nos.close(1)\nos.close(2)\n"
    result = attack(source + "import time\ntime.sleep(60)", Limits(wall_s=0.5))
    assert result.reason == "wall"
    assert find_daemons() == []


def test_nothing_runs_on_after_the_death_of_who_started_it() -> None:
    script = (
        "from stages.grpo.rewards.sandbox import Program, run_all\n"
        f"run_all([Program({DAEMON!r})] * 2, 2)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as trainer:
        wait_until(lambda: len(find_daemons()) == 2)
        trainer.kill()
    wait_until(lambda: find_daemons() == [])


def test_zombies_do_not_outlive_the_program() -> None:
    result = attack("import os\nfor _ in range(9):\n    if os.fork() == 0: os._exit(0)\n")
    assert result.reason == "ok"
    stats = [read_proc(path) for path in Path("/proc/self/task").glob("*/children")]
    names = [read_proc(f"{pid}/comm") for stat in stats for pid in stat.split()]
    assert "bwrap\n" not in names


def test_compiler_reads_no_file_of_the_host() -> None:
    source = '#include "/etc/shadow"\nint main() {}'
    assert sandbox.compile_cpp(source) is None
    assert sandbox.compile_cpp('asm(".incbin \\"/etc/passwd\\"");\nint main() {}') is None


SQUARES = ("3", "9"), ("5", "25"), ("12", "144")


@pytest.mark.parametrize(
    "source",
    [
        "print(9)\nprint(25)\nprint(144)",  # all answers
        "pass",  # nothing is a prefix of everything
        "import json, sys, builtins\nbuiltins.print = lambda *a: None\nsys.exit(0)",
        "import os\nos._exit(0)",
        "import os\nos.write(1, b'passed')\nos._exit(0)",
        "import sys\nsys.stdout = type('S', (), {'__eq__': lambda *a: True})()",
        "import os\nfor file in os.listdir('/box'): print(open('/box/' + file).read())",
        "raise SystemExit(0)",
    ],
)
def test_programs_that_do_not_solve_it_get_nothing(source: str) -> None:
    assert reward("n = int(input())\nprint(n * n)", *SQUARES) == 1.0
    assert reward(source, *SQUARES) == 0.0


@pytest.mark.parametrize(
    "source",
    [
        (
            "class Same(int):\n    def __eq__(self, other): return True\n"
            "    def __hash__(self): return 0\ndef f(n): return Same(0)"
        ),
        "import json\njson.dumps = lambda *a, **k: '[null, 9]'\ndef f(n): return 0",
        "import json\njson.loads = lambda *a, **k: 0\ndef f(n): return True",
        (
            "import builtins\nbuiltins.len = lambda x: 0\nbuiltins.zip = lambda *a: []\n"
            "def f(n): return []"
        ),
        "def f(n):\n    print(n * n)",
        "import sys\ndef f(n): sys.__stdout__.write(str(n * n))",
        (
            "import os\ndef f(n):\n    for fd in range(64):\n        try: os.write(fd, b'9')\n"
            "        except OSError: pass\n    os._exit(0)"
        ),
        (
            "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'[1, 9]\\n')\n"
            "    except OSError: pass\ndef f(n): return n * n"
        ),  # right, but for what it wrote
        "import sys\ndef f(n):\n    return sys._getframe(1).f_globals['task'].get('expected')",
        "import os\ndef f(n):\n    os.lseek(0, 0, 0)\n    return int(os.read(0, 99))",
        "def f(n): return float('nan')",
        "def f(n): return {n * n}",
        "def f(n): return [n * n]",
        "def f(n): return str(n * n)",
        "def f(n):\n    import sys\n    sys.exit(0)",
    ],
)
def test_functions_that_do_not_solve_it_get_nothing(source: str) -> None:
    assert reward("def f(n): return n * n", *SQUARES, function="f") == 1.0
    assert reward(source, *SQUARES, function="f") == 0.0


def test_forged_result_pays_no_more_than_returning_it() -> None:
    # Whoever digs up the channel and its number can only say what the function could have said.
    source = (
        "import os, sys\n"
        "def f(n):\n"
        "    task = sys._getframe(1).f_globals\n"
        "    text = task['dumps']([task['task']['nonce'], 9])\n"
        "    os.write(task['channel'], text.encode())\n"
        "    os._exit(0)\n"
    )
    assert reward(source, *SQUARES, function="f") == reward(
        "def f(n): return 9", *SQUARES, function="f"
    )


def test_program_cannot_patch_what_compares() -> None:
    before = code.is_same_output, json.dumps, json.loads
    reward("import json\njson.loads = json.dumps = print", *SQUARES)
    assert (code.is_same_output, json.dumps, json.loads) == before
