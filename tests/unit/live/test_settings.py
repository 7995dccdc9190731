"""What the environment may say about the display, and what is said about a mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stages._live import packages
from stages._live.packages import find_python
from stages._live.settings import Settings, read_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("environment", "is_terminal", "expected"),
    [
        ({}, True, Settings(progress="rich", trackers=())),
        ({}, False, Settings(progress="plain", trackers=())),
        ({"R1_PROGRESS": "", "R1_TRACKERS": ""}, True, Settings(progress="rich", trackers=())),
        ({"R1_PROGRESS": "raw"}, True, Settings(progress="raw", trackers=())),
        (
            {"R1_TRACKERS": "wandb, tensorboard,wandb,"},
            False,
            Settings(progress="plain", trackers=("wandb", "tensorboard")),
        ),
    ],
)
def test_settings(environment: dict[str, str], is_terminal: bool, expected: Settings) -> None:  # noqa: FBT001
    assert read_settings(environment, is_terminal=is_terminal) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"R1_PROGRESS": "riche"}, "R1_PROGRESS: unknown word 'riche': did you mean 'rich'?"),
        ({"R1_PROGRESS": "x"}, "R1_PROGRESS: unknown word 'x': choose from rich, plain, raw"),
        ({"R1_TRACKERS": "wanbd"}, "R1_TRACKERS: unknown word 'wanbd': did you mean 'wandb'?"),
        (
            {"R1_TRACKERS": "wandb", "R1_PROGRESS": "raw"},
            "R1_TRACKERS is 'wandb', and with R1_PROGRESS=raw nothing reads the figures",
        ),
    ],
)
def test_mistake_names_the_setting(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match="R1_") as raised:
        read_settings(environment, is_terminal=True)
    assert str(raised.value).startswith(message)


def test_tracker_that_is_not_installed_is_named_with_its_version_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv, lock = tmp_path / ".venv-trackers", tmp_path / "trackers.lock.txt"
    lock.write_text("wandb==1.2.3 \\\n    --hash=sha256:0\n")
    monkeypatch.setattr(packages, "VENV", venv)
    monkeypatch.setattr(packages, "LOCK", lock)
    with pytest.raises(ValueError, match="wandb") as raised:
        find_python(["wandb"])
    assert str(raised.value) == (
        f"R1_TRACKERS has wandb, and its package wandb==1.2.3 is not installed in {venv}, nor with "
        f"the stages: `python3 -m nox -s trackers` installs it, or take wandb out of R1_TRACKERS"
    )
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").touch()
    with pytest.raises(ValueError, match=f"is not installed in {venv}: `python3"):
        find_python(["wandb"])
    package = venv / "lib/python3.11/site-packages/wandb"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    assert find_python(["wandb"]) == str(venv / "bin/python")
