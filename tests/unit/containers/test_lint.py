"""Definitions of images: the shipped ones are in order, and what must not be in one is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from containers.lint import find_faults

CONTAINERS = Path(__file__).parents[3] / "containers"
DEBIAN = "Bootstrap: debootstrap\nOSVersion: bookworm\n\n%post\n"


@pytest.mark.parametrize("path", sorted(CONTAINERS.glob("*.def")), ids=lambda path: path.name)
def test_what_is_shipped_is_in_order(path: Path) -> None:
    assert find_faults(path.read_text(encoding="utf-8")) == []


def test_all_images_are_looked_at() -> None:
    names = {path.stem for path in CONTAINERS.glob("*.def")}
    assert names == {"cpu", "evaluate", "serve", "train"}


@pytest.mark.parametrize(
    "line",
    [
        "rm -rf /tmp/*",
        "rm -rf /tmp",
        "cd / && rm -r /var/tmp/pip-*",
        "rm -f /dev/shm/x",
        "rm -rf /root/.cache /tmp/*",
        'rm -rf "/tmp"/x',
        "rm -rf \\\n    /tmp/*",
        "find /tmp -delete",
        "mv /tmp/a /opt/a",
        "rm -rf $TMPDIR",
        "rm -rf ${TMPDIR}/x",
        "true; rm -rf //tmp/*",
        "cd /tmp; rm -rf *",
        "chmod 777 /dev/null",
        "truncate -s 0 /var/tmp/log",
        "umount /dev",
        "for f in /tmp/*; do rm $f; done",
        "sh -c 'rm -rf /tmp/a'",
        "rsync --delete -a /opt/empty/ /tmp/",
        "/bin/rm -rf /tmp/a",
        "cd /tmp",
        "x=/var/tmp",
        "cp x /dev/null /dev/sda",
        "echo x >/dev/null/../sda",
        "cd $(mktemp -d)",
        "rm -rf /*",
        "rm -rf / --no-preserve-root",
        "find / -xdev -delete",
    ],
)
def test_the_building_machines_folders_are_left_alone(line: str) -> None:
    (fault,) = find_faults(f"{DEBIAN}    {line}\n")
    assert fault.startswith("line 5: ")
    assert "the building machine's own: do not name them" in fault


@pytest.mark.parametrize(
    "line",
    [
        "rm -rf /opt/tmp",
        "rm -r /root/.cache/tmp",
        "true >/dev/null 2>&1",
        "rm -rf /opt/a/ /root/.cache",
        "rm -rf /usr/share/tmpfiles /opt/dev",
        "# rm -rf /tmp/*",
        "rm /opt/rederive/x  # not in /tmp",
    ],
)
def test_what_is_harmless_passes(line: str) -> None:
    assert find_faults(f"{DEBIAN}    {line}\n") == []


@pytest.mark.parametrize(
    "line",
    [
        "pip install numpy",
        "pip3 install --require-hashes -r lock.txt",
        "python3 -m pip --no-cache-dir install --require-hashes --no-deps -r lock.txt",
        "uv pip install torch",
        "apt-get update && apt-get install -y vim",
        "apt-get -y install --require-hashes --no-deps --no-index",
        "conda install cuda",
        "npm install -g x",
        "python setup.py install",
    ],
)
def test_what_no_lock_names_is_not_installed(line: str) -> None:
    (fault,) = find_faults(f"{DEBIAN}    {line}\n")
    assert "installs what no lock names" in fault


@pytest.mark.parametrize("line", ["curl -O https://x/y", "wget x", "git clone https://x/y"])
def test_nothing_else_is_fetched(line: str) -> None:
    (fault,) = find_faults(f"{DEBIAN}    {line}\n")
    assert "fetches what no lock names" in fault


def test_the_locks_packages_are_installed() -> None:
    line = "pip install --require-hashes \\\n --no-deps --no-index -r /lock.txt"
    assert find_faults(f"{DEBIAN}    {line}\n") == []


@pytest.mark.parametrize("section", ["%setup", "%pre"])
def test_nothing_runs_on_the_building_machine(section: str) -> None:
    (fault,) = find_faults(f"{DEBIAN}\n{section}\n    true\n")
    assert fault == f"line 6: {section} runs on the building machine: use %post"


def test_a_base_is_named_by_its_digest() -> None:
    tag = "Bootstrap: docker\nFrom: nvidia/cuda:13.0.1-base-ubuntu24.04\n"
    assert find_faults(f"{tag}\n%post\n    true\n") == [
        "From: nvidia/cuda:13.0.1-base-ubuntu24.04: a tag can move, name a digest (@sha256:...)"
    ]
    digest = tag.rstrip() + "@sha256:" + "0" * 64
    assert find_faults(f"{digest}\n\n%post\n    true\n") == []


@pytest.mark.parametrize("base", ["localimage", "library", "shub"])
def test_other_bases_are_refused(base: str) -> None:
    (fault,) = find_faults(f"Bootstrap: {base}\nFrom: x\n")
    assert fault == f"Bootstrap: {base}: it must be one of debootstrap, docker"
