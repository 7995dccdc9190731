"""Runs programs that a model wrote, each in a bubblewrap sandbox of its own.

A sandbox has no network, no file of the host but `/usr` and the Python interpreter's prefix, both
read-only, no `/proc`, no environment variable of the host, no descriptor but the standard ones, a
small tmpfs at `/tmp` as its only writable place, and a pid namespace that dies as a whole with the
program, or with the process that started it. A seccomp filter takes away the calls that no solution
needs and that would get around a limit (shared memory, memfd), the network namespace (vsock) or the
user namespace, which cannot be nested either.

How the limits work:

1. The verdict depends on CPU time, so that a busy machine does not change rewards. Each process has
   the limit (RLIMIT_CPU), and the program and the children that it waited for have it together.
   The limit on wall time is a last resort for programs that sleep.
2. Memory is limited per process (RLIMIT_AS): the most that a sandbox can take is that times the
   number of processes, and its files, because there are no cgroups to rely on.
3. The limit on processes counts those of the sandbox alone, set inside its user namespace (Linux
   5.14 or later; before, all of the user's). It does not bind root, so that a host process that is
   root becomes `nobody` before it enters the sandbox.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import platform
import resource
import selectors
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Reason = Literal["ok", "exit", "signal", "cpu", "wall", "output"]
Item = TypeVar("Item")
Value = TypeVar("Value")

BOX = "/box"  # where a program's files are, read-only
LANGUAGES = ("python", "cpp")
NUM_PARALLEL = len(os.sched_getaffinity(0))
_BIN = "/usr/bin"
_NOBODY = 65534
_NUM_OPEN_FILES = 64
_STACK_BYTES = 64 << 20  # deep recursion is how many solutions walk a tree
_STDERR_BYTES = 4096  # of its end, for messages
_KILL_S = 30.0
_MIB = 1 << 20

# Any of these gets nothing from the host; the seed makes the order of sets repeatable.
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",  # noqa: S108 - the sandbox's own
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
}

# Without `site`, which costs a third of the start, there is no exit(). The program gets a module
# of its own, so that it sees none of the launcher's names.
_LAUNCHER = f"""
import builtins, sys
builtins.exit = builtins.quit = sys.exit
sys.argv[0] = "main.py"
main = sys.modules["__main__"] = type(sys)("__main__")
with open("{BOX}/main.py", "rb") as file:
    code = compile(file.read(), "main.py", "exec")
exec(code, main.__dict__)
"""

# Waits for the program alone, as pid 1: when it returns, the kernel kills everything else.
_INIT = (f"{_BIN}/sh", "-c", '"$@"; exit $?', "sh")

# linux/audit.h, and the number of socket(), which is allowed for AF_UNIX alone.
_ARCHITECTURES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
_DENIED = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "request_key": (249, 218),
    "semget": (64, 190),
    "setns": (308, 268),
    "shmget": (29, 194),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}


_CPU_S = 5.0  # Open-R1's exec_timeout, of wall time there
_MEMORY_BYTES = 1024 * _MIB


def _wall_s(cpu_s: float) -> float:
    return 10 * cpu_s + 10  # a program that computes on a busy machine meets the other limit first


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one program may use; `output_bytes` is for each of stdout and stderr."""

    cpu_s: float = _CPU_S
    wall_s: float = _wall_s(_CPU_S)
    memory_bytes: int = _MEMORY_BYTES
    num_processes: int = 16  # threads count
    file_bytes: int = 64 * _MIB  # of all files together
    output_bytes: int = 16 * _MIB

    @classmethod
    def of_cpu(cls, cpu_s: float, memory_bytes: int = _MEMORY_BYTES) -> Limits:
        """Returns limits with as much wall time as a program with that CPU time may need."""
        return cls(cpu_s=cpu_s, wall_s=_wall_s(cpu_s), memory_bytes=memory_bytes)


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Program:
    """A command, the files that it finds in `BOX`, its standard input and its limits."""

    command: tuple[str, ...]
    files: tuple[tuple[str, bytes], ...] = ()
    stdin: bytes = b""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended.

    `reason` is ok (status 0), exit (another status), signal (killed, the status is 128 + its
    number), or the limit that it hit. `stderr` is its end only. `cpu_s` includes some 10 ms for
    the sandbox.
    """

    reason: Reason
    status: int
    stdout: bytes
    stderr: bytes
    cpu_s: float


def python_program(
    source: str,
    stdin: bytes = b"",
    limits: Limits | None = None,
    *,
    arguments: tuple[str, ...] = (),
    files: tuple[tuple[str, bytes], ...] = (),
    launcher: str = _LAUNCHER,
) -> Program:
    """Returns a Python program that has the standard library, and no installed packages.

    Args:
        launcher: the code that loads `source`, which it finds in `BOX`, as main.py.
    """
    files = (("main.py", source.encode(errors="replace")), *files)
    command = (_interpreter()[0], "-S", "-P", "-c", launcher, *arguments)
    return Program(command, files, stdin, limits or Limits())


def cpp_program(binary: bytes, stdin: bytes = b"", limits: Limits | None = None) -> Program:
    """Returns the program of a binary that `compile_cpp` made."""
    return Program((f"{BOX}/main",), (("main", binary),), stdin, limits or Limits())


def compile_cpp(source: str) -> bytes | None:
    """Returns the binary of a C++17 program, compiled in a sandbox, or None if that failed."""
    limits = Limits(cpu_s=30.0, wall_s=300.0, memory_bytes=2048 * _MIB, output_bytes=64 * _MIB)
    script = f"g++ -std=c++17 -O2 -pipe -o /tmp/main {BOX}/main.cpp && exec cat /tmp/main"
    files = (("main.cpp", source.encode(errors="replace")),)
    result = run(Program((f"{_BIN}/sh", "-c", script), files, b"", limits))
    return result.stdout if result.reason == "ok" else None


def check_sandbox(language: str) -> None:
    """Checks that programs of the language can be run here.

    Raises:
        ValueError: they cannot; the message says what to do.
    """
    if language not in LANGUAGES:
        raise ValueError(f"language must be one of {', '.join(LANGUAGES)}, not {language!r}")
    if platform.machine() not in _ARCHITECTURES:
        raise ValueError(
            f"the sandbox has no seccomp filter for machine {platform.machine()!r}: run code "
            f"rewards on one of {', '.join(_ARCHITECTURES)}"
        )
    needed = {"bwrap": "bubblewrap", "prlimit": "util-linux", "setpriv": "util-linux"}
    for tool, package in (needed | ({"g++": "g++"} if language == "cpp" else {})).items():
        if not Path(_BIN, tool).exists():
            raise ValueError(
                f"programs in {language} need {_BIN}/{tool}, which is not there: install it "
                f"(apt-get install {package})"
            )
    try:
        result = run(Program((f"{_BIN}/true",)))
    except RuntimeError as error:
        raise ValueError(
            f"bwrap cannot make a sandbox here: {error}. Allow user namespaces: sysctl "
            f"user.max_user_namespaces > 0, kernel.unprivileged_userns_clone=1 (Debian), "
            f"kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), and in a container a "
            f"seccomp profile that lets unshare and mount through"
        ) from error
    if result.reason != "ok":
        raise ValueError(f"a sandbox cannot run /usr/bin/true: {result}; raise the host's limits")
    if language == "python":
        _interpreter()


def run_all(programs: Iterable[Program], num_parallel: int = NUM_PARALLEL) -> list[Result]:
    """Returns the results of the programs, in their order, with at most that many at once."""
    return map_parallel(run, list(programs), num_parallel)


def map_parallel(
    function: Callable[[Item], Value], items: Sequence[Item], num_parallel: int = NUM_PARALLEL
) -> list[Value]:
    """Returns the function's values, in the order of the items, computed in threads.

    Raises:
        ValueError: `num_parallel` is less than 1.
    """
    if num_parallel < 1:
        raise ValueError(f"num_parallel must be >= 1, not {num_parallel}")
    with ThreadPoolExecutor(num_parallel, thread_name_prefix="sandbox") as pool:
        return list(pool.map(function, items))


def run(program: Program) -> Result:
    """Returns how the program ended, after everything that it started has ended too.

    Raises:
        RuntimeError: the sandbox could not be made, or not be ended: not the program's fault.
    """
    with ExitStack() as stack:

        def keep(data: bytes) -> int:
            fd = _sealed(data)
            stack.callback(os.close, fd)
            return fd

        status_read, status_write = os.pipe()
        stack.callback(os.close, status_read)
        files = {name: keep(data) for name, data in program.files}
        seccomp = keep(_seccomp_filter())
        command = _command(program, files, seccomp, status_write)
        process = stack.enter_context(
            subprocess.Popen(  # noqa: S603 - that is the purpose
                command,
                stdin=keep(program.stdin),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=(*files.values(), seccomp, status_write),
                env=_ENVIRONMENT,
            )
        )
        os.close(status_write)
        stdout, stderr, report, cut = _collect(process, status_read, program.limits)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = usage.ru_utime + usage.ru_stime
    if cut:
        return Result(cut, 128 + 9, stdout, stderr, cpu_s)
    # bwrap's last line has the status, but only if it came as far as running the command.
    code = json.loads(report.splitlines()[-1]).get("exit-code") if report else None
    if code is None:
        raise RuntimeError(stderr.decode(errors="replace").strip() or f"bwrap ended with {status}")
    return Result(_reason(code, cpu_s, program.limits), code, stdout, stderr, cpu_s)


def _reason(code: int, cpu_s: float, limits: Limits) -> Reason:
    if cpu_s > limits.cpu_s or code == 128 + 24:  # SIGXCPU
        return "cpu"
    if code > 128:  # noqa: PLR2004 - the shell's way to say that a signal ended it
        return "signal"
    return "exit" if code else "ok"


def _collect(
    process: subprocess.Popen[bytes], status: int, limits: Limits
) -> tuple[bytes, bytes, bytes, Reason | None]:
    """Returns stdout, the end of stderr, bwrap's report, and the limit that we killed it for.

    bwrap alone holds `status` and outlives everything in the sandbox, so that at the end of the
    three streams nothing of it is left.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    stdout, stderr = process.stdout.fileno(), process.stderr.fileno()
    sizes = dict.fromkeys((stdout, stderr, status), 0)
    data = {fd: bytearray() for fd in sizes}
    cut: Reason | None = None
    deadline = time.monotonic() + limits.wall_s
    with selectors.DefaultSelector() as selector:
        for fd in sizes:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            for key, _ in ready:
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fd)
                elif cut is None:
                    sizes[key.fd] += len(chunk)
                    data[key.fd] += chunk
            del data[stderr][:-_STDERR_BYTES]
            if cut is None and max(sizes.values()) > limits.output_bytes:
                cut = "output"
            elif time.monotonic() < deadline:
                continue
            elif cut is None:
                cut = "wall"
            else:
                raise RuntimeError(f"a killed sandbox is still there after {_KILL_S} s")
            process.kill()  # and with it, by --die-with-parent, the whole pid namespace
            deadline = time.monotonic() + _KILL_S
    del data[stdout][limits.output_bytes :]
    return bytes(data[stdout]), bytes(data[stderr]), bytes(data[status]), cut


def _command(program: Program, files: dict[str, int], seccomp: int, status: int) -> list[str]:
    limits = program.limits
    boxed = [
        argument
        for name, fd in files.items()
        for argument in ("--perms", "0555", "--file", str(fd), f"{BOX}/{name}")
    ]
    return [
        *_become_nobody(),
        *(f"{_BIN}/bwrap", "--unshare-user", "--unshare-all", "--disable-userns"),
        *("--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"),
        *("--uid", str(_NOBODY), "--gid", str(_NOBODY), "--hostname", "sandbox"),
        *("--size", str(limits.file_bytes), "--tmpfs", "/tmp", "--chdir", "/tmp"),  # noqa: S108
        *_mounts(),
        *("--dir", BOX, *boxed),
        *("--remount-ro", "/", "--seccomp", str(seccomp), "--json-status-fd", str(status)),
        *("--", *_INIT, f"{_BIN}/prlimit", *_rlimits(limits), "--", *program.command),
    ]


@cache
def _mounts() -> tuple[str, ...]:
    """Returns bwrap's arguments for what is the same in all sandboxes."""
    mounts = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib64"):
        source = Path("/", name)
        if source.is_symlink():
            mounts += ["--symlink", f"usr/{name}", str(source)]
        elif source.exists():
            mounts += ["--ro-bind", str(source), str(source)]
    for name in ("null", "zero", "urandom"):  # no --dev: its tmpfs would be without a limit
        mounts += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    return (*mounts, *_interpreter()[1])


@cache
def _interpreter() -> tuple[str, tuple[str, ...]]:
    """Returns the path of the interpreter in the sandbox and bwrap's arguments to mount it.

    It is the one that runs this, without its virtual environment, or if `nobody` may not read
    that (it is in root's home), the system's of the same version.

    Raises:
        ValueError: neither can be used.
    """
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = Path(sys.base_prefix).resolve()
    own, system = prefix / "bin" / name, Path(_BIN, name)
    if own.exists() and _is_reachable(own.resolve()):
        is_mounted = prefix.is_relative_to("/usr")
        return str(own), () if is_mounted else ("--ro-bind", str(prefix), str(prefix))
    if system.exists():
        return str(system), ()
    raise ValueError(
        f"the sandbox cannot use the interpreter {own}, which user nobody may not reach, and "
        f"there is no {system}: install {name} outside of root's home"
    )


def _is_reachable(path: Path) -> bool:
    if os.geteuid() != 0:
        return True
    return all(parent.stat().st_mode & 0o001 for parent in path.parents)


@cache
def _become_nobody() -> tuple[str, ...]:
    # Popen's user= would do the same, but then it forks, which takes long in a process as large
    # as a trainer; without, it uses vfork.
    if os.geteuid() != 0:
        return ()
    ids = (f"--reuid={_NOBODY}", f"--regid={_NOBODY}")
    return (f"{_BIN}/setpriv", *ids, "--clear-groups", "--")


def _rlimits(limits: Limits) -> list[str]:
    """Returns prlimit's arguments: soft and hard alike, but for CPU, whose signal is telling."""
    cpu_s = max(1, math.ceil(limits.cpu_s))
    values = {
        "as": _clamp(resource.RLIMIT_AS, limits.memory_bytes),
        "fsize": _clamp(resource.RLIMIT_FSIZE, limits.file_bytes),
        "nproc": _clamp(resource.RLIMIT_NPROC, limits.num_processes + 1),  # pid 1
        "nofile": _clamp(resource.RLIMIT_NOFILE, _NUM_OPEN_FILES),
        "stack": _clamp(resource.RLIMIT_STACK, _STACK_BYTES),
        "core": 0,
    }
    return [f"--cpu={cpu_s}:{cpu_s + 1}", *(f"--{key}={value}" for key, value in values.items())]


def _clamp(which: int, value: int) -> int:
    """Returns the value, or the host's own limit if that is lower: it cannot be raised."""
    hard = resource.getrlimit(which)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def _sealed(data: bytes) -> int:
    """Returns a descriptor to read the data from, which nobody can write to."""
    fd = os.memfd_create("sandbox", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@cache
def _seccomp_filter() -> bytes:
    """Returns the BPF program that fails the calls of `_DENIED` with EPERM."""
    load, equal, at_least, done = 0x20, 0x15, 0x35, 0x06
    allow, deny, kill = 0x7FFF0000, 0x00050001, 0x80000000
    machine = platform.machine()
    arch, socket = _ARCHITECTURES[machine]
    column = list(_ARCHITECTURES).index(machine)
    code = [
        *((load, 0, 0, 4), (equal, 1, 0, arch), (done, 0, 0, kill)),
        *((load, 0, 0, 0), (at_least, 0, 1, 0x40000000), (done, 0, 0, deny)),  # the x32 ABI
    ]
    for numbers in _DENIED.values():
        code += [(equal, 0, 1, numbers[column]), (done, 0, 0, deny)]
    code += [
        *((equal, 0, 3, socket), (load, 0, 0, 16), (equal, 1, 0, 1), (done, 0, 0, deny)),
        (done, 0, 0, allow),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)
