"""The strict loader of params.yaml: what a stage's dataclass says is what the file must hold."""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
import types
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages._contract.places import params_of

if TYPE_CHECKING:
    from stages._contract.places import Cell

STAGES = Path(__file__).parents[1]
# containers/<image>.lock.txt locks the packages of each.
Image = Literal["cpu", "serve", "train", "evaluate"]
# Prints what artifacts.sha256_tree returns.
HASH_TREE = (
    "cd FOLDER && find . ! -type d -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | "
    "sha256sum"
)


class ParamsError(ValueError):
    """params.yaml does not hold what the stages ask for; the message names the key."""


def stage_names() -> list[str]:
    """Returns the stages: the folders here that have parameters, sorted."""
    return sorted(path.parent.name for path in STAGES.glob("[!_]*/params.py"))


def load(path: Path, stage: str) -> Any:
    """Returns the parameters of one stage, an instance of its `<Stage>Params`.

    The whole file's sections are checked, the other stages' contents are not.

    Raises:
        ParamsError: a key is unknown, missing, of the wrong type or out of bounds.
    """
    return _convert(_read(path)[stage], _class_of(stage), stage)


def load_cell(path: Path, stage: str, cell: Cell) -> Any:
    """Returns the parameters of one stage in the cell: a track's section is laid over the core's.

    A section says only what differs. A value that is a section itself is laid over likewise; lists,
    mappings with names of the user's, and sections with a `kind` are replaced as a whole.

    Raises:
        ParamsError: as `load`; or the track or its section is not there or not in order.
    """
    if "section" not in cell:
        return load(path, stage)
    where = path.parent / params_of(cell)
    sections = read_sections(where).get(stage, {})
    _check_known(f"{where}: {stage}", cell["section"], list(sections))
    kind = _class_of(stage)
    try:
        return _convert(_overlay(_read(path)[stage], sections[cell["section"]], kind), kind, stage)
    except ParamsError as error:
        raise ParamsError(f"{where}: {cell['section']}: {error}") from error


def read_sections(path: Path) -> dict[str, dict[str, Any]]:
    """Returns what a track's parameters say, by stage and section; the values are not checked.

    Raises:
        ParamsError: a stage is unknown, a section is none, two have one name, or one has an image.
    """
    if not path.is_file():
        raise ParamsError(f"there is no track {path.parent.name!r}: {path} is not there")
    stages = _load(path)
    if not isinstance(stages, dict):
        raise ParamsError(f"{path} must have a section for each stage that the track runs")
    owners: dict[str, str] = {}
    for stage, sections in stages.items():
        _check_known(str(path), stage, stage_names())
        if not isinstance(sections, dict):
            raise ParamsError(f"{path}: {stage} must name its sections, not be {sections!r}")
        for name, values in sections.items():
            _check_name(f"{path}: {stage}", name)
            key = f"{path}: {stage}.{name}"
            if not isinstance(values, dict):
                raise ParamsError(f"{key} must be a section, {{}} if nothing differs: {values!r}")
            if name in owners:
                raise ParamsError(
                    f"{key}: {owners[name]} has a section of that name, too, and both would write "
                    f"the same files: rename one"
                )
            if "image" in values:
                raise ParamsError(
                    f"{key}.image: a track runs in the recipe's images: set {stage}.image in "
                    f"params.yaml"
                )
            owners[name] = stage
    return stages


def _overlay(below: Any, above: Any, kind: Any) -> Any:
    """Returns `above`, with what it leaves out taken from `below` if `kind` is a dataclass."""
    if not (dataclasses.is_dataclass(kind) and isinstance(below, dict) and isinstance(above, dict)):
        return above
    hints = get_type_hints(kind)
    changed = {name: _overlay(below.get(name), v, hints.get(name)) for name, v in above.items()}
    return {**below, **changed}


def load_all(path: Path) -> dict[str, Any]:
    """Returns the parameters of all stages by name. Raises ParamsError as `load` does."""
    return {stage: load(path, stage) for stage in stage_names()}


def check_artifact(key: str, path: str, remedy: str) -> None:
    """Checks that the text names a path below the repository's root. Raises ValueError."""
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"{key} must lie below the repository's root, not {path!r}: {remedy}")


def check_sha256(key: str, value: str, *, is_tree: bool = False) -> None:
    """Checks that the text is a digest, of a file or of a folder. Raises ValueError."""
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        command = HASH_TREE if is_tree else "sha256sum FILE"
        raise ValueError(
            f"{key} must be 64 lower-case hex digits, not {value!r}: `{command}` prints them"
        )


def check_commit(key: str, value: str) -> None:
    """Checks that the text is a full commit. Raises ValueError."""
    if not re.fullmatch(r"[0-9a-f]{40}", value):
        raise ValueError(
            f"{key} must be a commit of 40 hex digits, not {value!r}: branches, tags and short "
            f"hashes can move; the repository's page on the hub lists its commits"
        )


def read_strictly(path: Path, kind: Any, key: str) -> Any:
    """Returns another YAML file's content as the type `kind`, whose name in messages is `key`.

    Raises:
        ParamsError: the content is no such thing; names the file and the key.
    """
    value = _load(path)
    try:
        return _convert(value, kind, key)
    except ParamsError as error:
        raise ParamsError(f"{path}: {error}") from error


def _load(path: Path) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        raise ParamsError(f"there is no {path}: run from the repository's root") from None
    except YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def _class_of(stage: str) -> Any:
    module = importlib.import_module(f"stages.{stage}.params")
    return getattr(module, f"{stage.capitalize()}Params")


def _read(path: Path) -> dict[str, Any]:
    """Returns the sections of params.yaml, one for each stage."""
    sections = _load(path)
    if not isinstance(sections, dict):
        raise ParamsError(f"{path} must have a section for each stage: {', '.join(stage_names())}")
    _check_keys(str(path), sections, stage_names())
    return dict(sections)


def _check_known(where: str, key: Any, expected: list[str]) -> None:
    if key not in expected:
        near = get_close_matches(str(key), expected, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(expected))}"
        raise ParamsError(f"{where}: unknown key {key!r}: {hint}")


def _check_keys(where: str, found: dict[str, Any], expected: list[str]) -> None:
    for key in found:
        _check_known(where, key, expected)
    for key in expected:
        if key not in found:
            raise ParamsError(
                f"{where}: {key!r} is missing: every value is set there, none in code"
            )


def _check_name(where: str, name: Any) -> None:
    """Checks a name that the user chose: YAML reads 2024 as a number, and nothing as null."""
    if not isinstance(name, str):
        raise ParamsError(
            f"{where}: the name {name!r} is of type {type(name).__name__}: write it in quotes"
        )


def _convert(value: Any, kind: Any, key: str) -> Any:  # noqa: PLR0911 - one return per kind
    """Returns `value` as the type `kind`, or raises ParamsError naming `key`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _convert_section(value, kind, key)
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, key)
    if origin is Literal:
        if value in arguments and type(value) in {type(argument) for argument in arguments}:
            return value
        raise ParamsError(
            f"{key}: expected one of {', '.join(map(repr, arguments))}, not {value!r}"
        )
    if origin is list and isinstance(value, list):
        return [_convert(entry, arguments[0], f"{key}[{i}]") for i, entry in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return _convert_mapping(value, arguments[1], key)
    if kind is float and type(value) in {int, float}:
        return _convert_number(value, key)
    if origin is None and type(value) is kind:  # a bool is an int to isinstance
        return value
    name = getattr(kind, "__name__", str(kind)) if origin is None else origin.__name__
    raise ParamsError(f"{key}: expected {name}, got {type(value).__name__} {value!r}")


def _convert_mapping(value: dict[Any, Any], kind: Any, key: str) -> dict[str, Any]:
    for name in value:
        _check_name(key, name)
    return {name: _convert(entry, kind, f"{key}.{name}") for name, entry in value.items()}


def _convert_number(value: float, key: str) -> float:
    if not math.isfinite(value):
        raise ParamsError(f"{key}: expected a finite number, not {value}")
    return float(value)


def _convert_section(value: Any, kind: Any, key: str) -> Any:
    if not isinstance(value, dict):
        raise ParamsError(f"{key}: expected a section, got {type(value).__name__} {value!r}")
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    _check_keys(key, value, names)
    values = {name: _convert(value[name], hints[name], f"{key}.{name}") for name in names}
    try:
        return kind(**values)
    except ParamsError:
        raise
    except ValueError as error:
        raise ParamsError(_name_key(key, str(error), names)) from error


def _name_key(key: str, message: str, names: list[str]) -> str:
    """Returns the message with the section's key: a class that has several does not know it."""
    if message.startswith(key):
        return message
    first = re.match(r"\w*", message)
    return f"{key}.{message}" if first and first[0] in names else f"{key}: {message}"


def _convert_union(value: Any, kinds: tuple[Any, ...], key: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    sections = {
        get_args(get_type_hints(kind)["kind"])[0]: kind
        for kind in kinds
        if dataclasses.is_dataclass(kind)
    }
    if sections:
        tag = value.get("kind") if isinstance(value, dict) else None
        if tag not in sections:
            raise ParamsError(f"{key}.kind must be one of {', '.join(sections)}, not {tag!r}")
        return _convert_section(value, sections[tag], key)
    for kind in kinds:
        if type(value) is kind or get_origin(kind) is type(value):
            return _convert(value, kind, key)
    if float in kinds and type(value) is int:
        return _convert(value, float, key)
    names = " or ".join("null" if kind is type(None) else str(kind.__name__) for kind in kinds)
    raise ParamsError(f"{key}: expected {names}, got {type(value).__name__} {value!r}")
