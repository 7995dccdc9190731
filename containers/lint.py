"""What an image's definition may not do; nothing is built of one that does."""

from __future__ import annotations

import re

# The building machine's file systems, as `apptainer build` hands them to %post: not to be named at
# all, since a line that removes something may follow a line that goes there.
_HOSTS = re.compile(r"(?<![\w.-])/+(?:var/+tmp|tmp|dev)(?![\w.-])|\$\{?TMPDIR\b|\bmktemp\b")
_HARMLESS = re.compile(r"[<>]\s*/dev/null(?![\w/.-])")
_ALL = re.compile(
    r"(?<![\w.-])(?:rm|mv|find|rsync|chmod|chown)\s(?:.*\s)?['\"]?/+(?:\*|\s|['\"]|$)"
)
_INSTALLS = re.compile(
    r"\b(?:pip3?\s+(?:\S+\s+)*?install|uv\s+(?:pip\s+)?(?:install|sync|add)|easy_install|conda\s+install"
    r"|npm\s+install|setup\.py\s+install|apt-get\s+(?:\S+\s+)*?install|apt\s+(?:\S+\s+)*?install)"
)
_FETCHES = re.compile(r"(?:^|[\s;&|(])(?:curl|wget|git\s+clone)\s")
_PIP_FLAGS = ("--require-hashes", "--no-deps", "--no-index")
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_BASES = {"debootstrap", "docker"}


def find_faults(text: str) -> list[str]:
    """Returns what is wrong with the definition, each with its line's number and the remedy."""
    faults = []
    for number, line in _join(text):
        faults += [f"line {number}: {fault}" for fault in _judge(line)]
        if line.strip() in {"%setup", "%pre"}:
            faults.append(f"line {number}: {line.strip()} runs on the building machine: use %post")
    return faults + _judge_base(text)


def _join(text: str) -> list[tuple[int, str]]:
    """Returns the lines with their numbers, comments left out and continued lines as one."""
    lines: list[tuple[int, str]] = []
    goes_on = False
    for number, line in enumerate(text.splitlines(), start=1):
        code = re.sub(r"(^|\s)#.*", "", line).rstrip()
        if goes_on:
            first, before = lines.pop()
            lines.append((first, f"{before} {code.removesuffix(chr(92)).strip()}"))
        else:
            lines.append((number, code.removesuffix("\\")))
        goes_on = code.endswith("\\")
    return [(number, line) for number, line in lines if line.strip()]


def _judge(line: str) -> list[str]:
    faults = []
    if _HOSTS.search(_HARMLESS.sub("", line)) or _ALL.search(line):
        faults.append(
            f"{line.strip()!r} may remove or change what is below /tmp, /var/tmp or /dev, which "
            f"are the building machine's own: do not name them (but for >/dev/null)"
        )
    if _FETCHES.search(line):
        faults.append(f"{line.strip()!r} fetches what no lock names: put it into a lock")
    if _INSTALLS.search(line):
        missing = [flag for flag in _PIP_FLAGS if flag not in line.split()]
        if missing or "apt" in line.partition("install")[0]:
            faults.append(
                f"{line.strip()!r} installs what no lock names: packages of Python by pip with "
                f"{' '.join(_PIP_FLAGS)}, Debian's in Include"
            )
    return faults


def _judge_base(text: str) -> list[str]:
    header = dict(re.findall(r"(?m)^([A-Za-z]+):\s*(.*?)\s*$", text.partition("\n%")[0]))
    base = header.get("Bootstrap", "")
    if base not in _BASES:
        return [f"Bootstrap: {base or 'missing'}: it must be one of {', '.join(sorted(_BASES))}"]
    if base == "docker" and not _DIGEST.search(header.get("From", "")):
        return [f"From: {header.get('From', '')}: a tag can move, name a digest (@sha256:...)"]
    return []
