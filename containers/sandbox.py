"""Runs a command where the host's /tmp, /var/tmp and /dev cannot be seen: what builds images.

`apptainer build` binds these three of the machine that builds into `%post`, whatever its
configuration says, so that an `rm` there would reach them. Here they are file systems of this
command's own, gone at its end. The command runs as root of a user namespace besides, since
Apptainer refuses a root that lacks a capability, as root in a container often does. That is no
protection: what else root can write, the command can, too.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

HIDDEN = ("/tmp", "/var/tmp", "/dev")  # noqa: S108 - not used, but hidden
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}
_DEVICES |= {"tty": (5, 0), "fuse": (10, 229)}
_LINKS = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0"}
_LINKS |= {"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
_NUM_IDS = 65536


def check_visible(path: Path) -> None:
    """Checks that the command will see the path.

    Raises:
        ValueError: the sandbox hides it.
    """
    for hidden in HIDDEN:
        if path.resolve().is_relative_to(hidden):
            raise ValueError(
                f"{path} lies below {hidden}, which the sandbox for building images hides: use a "
                f"clone of the repository, and a Python, elsewhere"
            )


def run(command: list[str], *, environment: dict[str, str], cwd: Path) -> int:
    """Returns the command's exit status; it ends with this process.

    Raises:
        ValueError: this is not root.
    """
    if os.geteuid() != 0:
        raise ValueError("images are built by root (the sandbox mounts file systems): use sudo")
    child = os.fork()
    if child == 0:
        _become(command, environment, cwd)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise


def _become(command: list[str], environment: dict[str, str], cwd: Path) -> NoReturn:
    """Becomes the parent of the command in a sandbox, and ends with its status."""
    status = 1
    try:
        _die_with_parent()
        _call("unshare", _CLONE_NEWNS)
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)  # noqa: S607
        _hide()
        os.chdir(cwd)
        status = _run_as_mapped_root(command, environment)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"sandbox: {error}", file=sys.stderr)  # noqa: T201 - this process ends here
    finally:
        os._exit(status if status >= 0 else 128 - status)


def _hide() -> None:
    """Mounts empty file systems over what is hidden, and makes the devices that programs expect."""
    os.umask(0)
    staged = Path("/run")  # any folder: what is mounted there is moved away
    _mount("tmpfs", staged, "mode=755")
    for name, device in _DEVICES.items():
        os.mknod(staged / name, stat.S_IFCHR | 0o666, os.makedev(*device))
    for name, target in _LINKS.items():
        (staged / name).symlink_to(target)
    for name in ("pts", "shm"):
        (staged / name).mkdir()
    _mount("devpts", staged / "pts", "newinstance,ptmxmode=666,mode=620")
    _mount("tmpfs", staged / "shm", "mode=1777")
    subprocess.run(["mount", "--move", "/run", "/dev"], check=True)  # noqa: S607
    for hidden in HIDDEN[:2]:
        _mount("tmpfs", Path(hidden), "mode=1777")
    os.umask(0o022)


def _mount(kind: str, target: Path, options: str) -> None:
    command = ["mount", "-t", kind, "-o", options, kind, str(target)]
    subprocess.run(command, check=True)  # noqa: S603


def _run_as_mapped_root(command: list[str], environment: dict[str, str]) -> int:
    """Returns the status of the command, root of a user namespace with the ids of this one.

    It is the first process of its namespace of processes, too: none outlives it.
    """
    _call("unshare", _CLONE_NEWPID)
    ready, mapped = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        _die_with_parent()
        _mount("proc", Path("/proc"), "nosuid,nodev,noexec")
        _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS)
        os.write(ready[1], b"u")
        os.close(mapped[1])
        os.read(mapped[0], 1)
        os.setgid(0)
        os.setuid(0)
        os.execvpe(command[0], command, environment)  # noqa: S606
    os.close(ready[1])
    if os.read(ready[0], 1) == b"u":
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/1/{name}").write_text(f"0 0 {_NUM_IDS}\n", encoding="ascii")
    for end in (*mapped, ready[0]):
        os.close(end)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _die_with_parent() -> None:
    _call("prctl", 1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _call(function: str, *arguments: int) -> None:
    """Calls a function of libc. Raises OSError if it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{function}: {os.strerror(error)}")
