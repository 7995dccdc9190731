"""What every test gets: no hub, no telemetry, quiet libraries; and what some need."""

from __future__ import annotations

import os
import shutil
import signal
from functools import cache
from pathlib import Path

import hypothesis
import pytest

from tests.git import git

ROOT = Path(__file__).parents[1]

# Before any test module imports a library that reads them.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    DO_NOT_TRACK="1",
    VLLM_NO_USAGE_STATS="1",
    VLLM_LOGGING_LEVEL="WARNING",
    TOKENIZERS_PARALLELISM="false",
)
# A shell's job in the background ignores Ctrl-C, and so would all that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# How long an example takes says what else the machine does.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
os.environ.pop("R1_SITE", None)  # stages run here, and no test submits a job to a user's cluster


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what needs a sandbox or a GPU where there is none, and says how to get one."""
    for marker, find_problem in (("sandbox", find_sandbox_problem), ("gpu", find_gpu_problem)):
        problem = find_problem() if item.get_closest_marker(marker) else None
        if problem:
            pytest.skip(problem)


@cache
def find_sandbox_problem() -> str | None:
    """Returns why programs cannot be run here, or None if they can."""
    from stages.grpo.rewards.sandbox import LANGUAGES, check_sandbox  # noqa: PLC0415 - see above

    try:
        for language in LANGUAGES:
            check_sandbox(language)
    except ValueError as error:
        return str(error)
    return None


@cache
def find_gpu_problem() -> str | None:
    """Returns why nothing can be computed on a GPU here, or None if it can."""
    import torch  # noqa: PLC0415 - takes seconds

    return None if torch.cuda.is_available() else "torch finds no NVIDIA GPU on this machine"


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a repository with the recipe, run once for all tests: each leaves it as it was.

    A tiny model takes minutes for it.
    """
    from tests.recipe import make_recipe  # noqa: PLC0415 - imports torch

    repo = tmp_path_factory.mktemp("recipe")
    make_recipe(repo)
    return repo


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a clone with the working tree's files committed on top, without artifacts."""
    repo = tmp_path_factory.mktemp("original") / "rederive"
    git(ROOT, "clone", "-q", str(ROOT), str(repo))
    git(repo, "rm", "-rqf", ".")
    listing = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (repo / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, repo / name)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "--allow-empty", "-m", "as it is")
    return repo


@pytest.fixture
def duplicate(original: Path, tmp_path: Path) -> Path:
    """Returns a copy of the clone that a test may change and damage."""
    return Path(shutil.copytree(original, tmp_path / "duplicate"))


@pytest.fixture(scope="session")
def image() -> Path:
    """Returns the CPU image that its lock names: what was built before, or else a new build."""
    from tests.image import IMAGE, build, find_problem, is_built  # noqa: PLC0415 - see above

    problem = find_problem()
    if problem:
        pytest.skip(problem)
    if not is_built():
        build()
    return IMAGE
