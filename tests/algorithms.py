"""The algorithms in the table of stages/grpo/README.md: the keys of `grpo` that make them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

if TYPE_CHECKING:
    from stages.grpo.params import GrpoParams

_PAGE = Path(__file__).parents[1] / "stages" / "grpo" / "README.md"


def read_algorithms(page: str) -> dict[str, dict[str, Any]]:
    """Returns the keys by the algorithm's name."""
    section = page.partition("\n### Algorithms\n")[2].partition("\n### ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    yaml = YAML(typ="safe", pure=True)
    return {name.strip("| `"): yaml.load(keys.strip("`")) for name, keys, _ in rows}


def apply(params: GrpoParams, keys: dict[str, Any]) -> GrpoParams:
    """Returns the parameters with the keys set; arguments of rewards that are not named stay."""
    keys = dict(keys)
    arguments = replace(params.reward_args, **keys.pop("reward_args", {}))
    return replace(params, reward_args=arguments, **keys)


ALGORITHMS = read_algorithms(_PAGE.read_text(encoding="utf-8"))
