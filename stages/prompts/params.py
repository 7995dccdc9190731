"""Parameters of `prompts`: the sources of problems and traces, and how leaks are found.

Standard library only: the graph is read without importing torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from stages._contract.params import Image, check_commit, check_sha256
from stages.prompts.mixture import Mixture  # noqa: TC001 - the loader reads the types

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stages._contract.places import Cell

GYM_COLUMN = "reasoning_gym"
# What rows, later stages and TRL's rewards call something else.
_TAKEN = (
    *("answer", "completion", "completion_ids", "completions", "environments", "id", "images"),
    *("log_extra", "log_metric", "prompt", "prompts", "sample", "task", "tools", "trainer_state"),
)


def _require_counts(source: Source) -> None:
    for key in ("num_train", "num_rl", "num_evaluate"):
        if getattr(source, key) < 0:
            raise ValueError(f"{key} must be >= 0, not {getattr(source, key)}")


def question_fields(source: JsonlSource | HubSource) -> list[str]:
    """Returns the fields that make up a question, in their order."""
    fields = source.question_field
    return [fields] if isinstance(fields, str) else fields or [""]


def _require_fields(source: JsonlSource | HubSource) -> None:
    if not all(question_fields(source)) or "" in (source.answer_field, source.solution_field):
        raise ValueError("question_field, answer_field and solution_field must name a field")
    if source.answer_field is None:
        _require_rewards_alone(source)
    if source.answer_after == "":
        raise ValueError(
            "answer_after must be a marker such as '####', or null: the whole field is the answer"
        )
    if source.max_invalid < 0:
        raise ValueError(f"max_invalid must be >= 0, not {source.max_invalid}")


def _require_rewards_alone(source: JsonlSource | HubSource) -> None:
    """Checks that a reward, or a task's scorer, has columns to judge what has no answer by."""
    if not source.columns:
        raise ValueError(
            "answer_field is null and columns is empty, so no reward could tell right from wrong: "
            "name the answer's field, or the columns that a reward scores by"
        )
    if source.answer_after is not None:
        raise ValueError(
            f"answer_after is {source.answer_after!r}, but answer_field is null: set it to null, "
            f"too"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReasoningGymSource:
    """Problems of one procedural dataset of reasoning-gym."""

    kind: Literal["reasoning-gym"]
    dataset: str
    config: dict[str, int | float | str | bool | list[int | float | str | bool]]
    columns: list[str]
    num_draws: int
    num_train: int
    num_rl: int
    num_evaluate: int

    def __post_init__(self) -> None:
        """Checks the counts. Raises ValueError naming the key."""
        _require_counts(self)
        if self.columns not in ([], [GYM_COLUMN]):
            raise ValueError(
                f"columns must be [] or [{GYM_COLUMN}] for a source of kind "
                f"reasoning-gym, not {self.columns}: what reasoning-gym's own scorer needs"
            )
        for key in ("seed", "size"):
            if key in self.config:
                raise ValueError(
                    f"config.{key} is set by the stage, from prompts.seed and num_draws: remove it"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonlSource:
    """Problems of a local JSON Lines file, pinned by its digest."""

    kind: Literal["jsonl"]
    path: str
    sha256: str
    question_field: str | list[str]
    answer_field: str | None
    answer_after: str | None
    solution_field: str | None
    columns: list[str]
    max_invalid: int
    num_train: int
    num_rl: int
    num_evaluate: int

    def __post_init__(self) -> None:
        """Checks counts, fields and the pin. Raises ValueError naming the key."""
        _require_counts(self)
        _require_fields(self)
        check_sha256("sha256", self.sha256)


@dataclass(frozen=True, kw_only=True, slots=True)
class HubSource:
    """Problems of a dataset of the Hugging Face hub, pinned by its commit."""

    kind: Literal["hub"]
    repo: str
    subset: str | None
    revision: str
    split: str
    question_field: str | list[str]
    answer_field: str | None
    answer_after: str | None
    solution_field: str | None
    columns: list[str]
    max_invalid: int
    num_train: int
    num_rl: int
    num_evaluate: int

    def __post_init__(self) -> None:
        """Checks counts, fields and the pin. Raises ValueError naming the key."""
        _require_counts(self)
        _require_fields(self)
        check_commit("revision", self.revision)


Source = ReasoningGymSource | JsonlSource | HubSource


def _require_trace_fields(traces: JsonlTraces | HubTraces) -> None:
    if not traces.messages_field:
        raise ValueError("prompts.traces.messages_field must name a field, such as messages")
    if traces.max_rows is not None and traces.max_rows < 1:
        raise ValueError(
            f"prompts.traces.max_rows must be >= 1, or null for all, not {traces.max_rows}"
        )
    if traces.max_invalid < 0:
        raise ValueError(f"prompts.traces.max_invalid must be >= 0, not {traces.max_invalid}")


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonlTraces:
    """Reasoning traces of a local JSON Lines file, pinned by its digest."""

    kind: Literal["jsonl"]
    path: str
    sha256: str
    messages_field: str
    max_rows: int | None
    max_invalid: int

    def __post_init__(self) -> None:
        """Checks the counts and the pin. Raises ValueError naming the key."""
        _require_trace_fields(self)
        check_sha256("prompts.traces.sha256", self.sha256)


@dataclass(frozen=True, kw_only=True, slots=True)
class HubTraces:
    """Reasoning traces of a dataset of the Hugging Face hub, pinned by its commit."""

    kind: Literal["hub"]
    repo: str
    subset: str | None
    revision: str
    split: str
    messages_field: str
    max_rows: int | None
    max_invalid: int

    def __post_init__(self) -> None:
        """Checks the counts and the pin. Raises ValueError naming the key."""
        _require_trace_fields(self)
        check_commit("prompts.traces.revision", self.revision)


def _require_columns(key: str, columns: list[str], *, for_rewards: bool) -> None:
    for name in columns:
        if name in _TAKEN:
            raise ValueError(
                f"{key}: {name!r} is taken by the rows themselves, a later stage or TRL, which "
                f"hands columns to rewards by name: rename the field in the source"
            )
        is_name = name.isidentifier() if for_rewards else name.strip()
        if not is_name or columns.count(name) > 1:
            raise ValueError(
                f"{key}: {name!r} must be a name that a reward's argument can have, given once"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class BoilerplateParams:
    """What counts as a source's template text, which is no sign of a leak."""

    ngram: int
    min_frequency: float
    num_rows: int

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        key = "prompts.decontamination.boilerplate"
        if self.ngram < 1:
            raise ValueError(f"{key}.ngram must be >= 1 word, not {self.ngram}")
        if not 0 < self.min_frequency <= 1:
            raise ValueError(
                f"{key}.min_frequency must be in (0, 1], not {self.min_frequency}: it is a "
                f"fraction of questions (1 turns the search for templates off)"
            )
        if self.num_rows < 1:
            raise ValueError(f"{key}.num_rows must be >= 1, not {self.num_rows}")


def _require_evaluation_fields(source: JsonlEvaluation | HubEvaluation) -> None:
    if not source.question_field or source.solution_field == "":
        raise ValueError("question_field and solution_field must name a field")
    if source.max_invalid < 0:
        raise ValueError(f"max_invalid must be >= 0, not {source.max_invalid}")


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonlEvaluation:
    """An evaluation set that is no source: a local JSON Lines file, pinned by its digest."""

    kind: Literal["jsonl"]
    path: str
    sha256: str
    question_field: str
    solution_field: str | None
    max_invalid: int

    def __post_init__(self) -> None:
        """Checks the fields and the pin. Raises ValueError naming the key."""
        _require_evaluation_fields(self)
        check_sha256("sha256", self.sha256)


@dataclass(frozen=True, kw_only=True, slots=True)
class HubEvaluation:
    """An evaluation set that is no source: a dataset of the hub, pinned by its commit."""

    kind: Literal["hub"]
    repo: str
    subset: str | None
    revision: str
    split: str
    question_field: str
    solution_field: str | None
    max_invalid: int

    def __post_init__(self) -> None:
        """Checks the fields and the pin. Raises ValueError naming the key."""
        _require_evaluation_fields(self)
        check_commit("revision", self.revision)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecontaminationParams:
    """How a training problem that leaks an evaluation problem is recognised."""

    ngram: int
    boilerplate: BoilerplateParams
    against: dict[str, JsonlEvaluation | HubEvaluation]
    max_matches: int

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        if self.ngram < 1:
            raise ValueError(f"prompts.decontamination.ngram must be >= 1 word, not {self.ngram}")
        if self.max_matches < 0:
            raise ValueError(
                f"prompts.decontamination.max_matches must be >= 0 rows, not {self.max_matches}"
            )
        _require_names("prompts.decontamination.against", self.against)


@dataclass(frozen=True, kw_only=True, slots=True)
class MinHash:
    """When two questions are nearly the same, estimated by MinHash with banding."""

    kind: Literal["minhash"]
    threshold: float
    ngram: int
    num_perm: int
    num_bands: int

    def __post_init__(self) -> None:
        """Checks the bounds. Raises ValueError naming the key."""
        key = "prompts.near_duplicates"
        if not 0 < self.threshold <= 1:
            raise ValueError(
                f"{key}.threshold must be in (0, 1], not {self.threshold}: it is a Jaccard "
                f"similarity"
            )
        for name in ("ngram", "num_perm", "num_bands"):
            if getattr(self, name) < 1:
                raise ValueError(f"{key}.{name} must be >= 1, not {getattr(self, name)}")
        if self.num_perm % self.num_bands:
            raise ValueError(
                f"{key}.num_bands must divide num_perm = {self.num_perm}, not be {self.num_bands}"
            )


def _require_names(key: str, names: Iterable[str]) -> None:
    for name in names:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name):
            raise ValueError(
                f"{key}: {name!r} must consist of a-z, 0-9 and _: it names the evaluation task and "
                f"its files"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptsParams:
    """What `prompts` reads from params.yaml; the comments there give sources and roles."""

    image: Image
    seed: int
    system_prompt: str | None
    examples: str
    decontamination: DecontaminationParams
    near_duplicates: MinHash | None
    sources: dict[str, Source]
    mixture: Mixture | None
    traces: JsonlTraces | HubTraces | None

    def __post_init__(self) -> None:
        """Checks names and totals. Raises ValueError naming the key."""
        if self.system_prompt is not None and not self.system_prompt.strip():
            raise ValueError(
                "prompts.system_prompt must have a text, or be null for no system message"
            )
        if not self.examples:
            raise ValueError(
                "prompts.examples must name a file of worked examples; generate.num_examples: 0 "
                "samples without them"
            )
        _require_names("prompts.sources", self.sources)
        if self.traces is not None and "traces" in self.sources:
            raise ValueError(
                "prompts.sources: 'traces' is the name under which metrics/prompts.json counts "
                "prompts.traces: rename the source"
            )
        for name in self.decontamination.against:
            if name in self.sources:
                raise ValueError(
                    f"prompts.decontamination.against: {name!r} is one of prompts.sources, whose "
                    f"evaluation problems are compared anyway: remove it, or rename it"
                )
        if self.mixture is not None:
            _require_mixture(self.mixture, self.sources)
        for name, source in self.sources.items():
            key, num_rl = f"prompts.sources.{name}.columns", count_problems(self, name).num_rl
            _require_columns(key, source.columns, for_rewards=num_rl > 0)
        self._require_problems()

    def _require_problems(self) -> None:
        numbers = {name: count_problems(self, name) for name in self.sources}
        for name, asked in numbers.items():
            if not any(asked):
                raise ValueError(
                    f"prompts.sources.{name}: num_train, num_rl and num_evaluate are all 0: remove "
                    f"the source"
                )
            source = self.sources[name]
            if isinstance(source, ReasoningGymSource) and source.num_draws < sum(asked):
                raise ValueError(
                    f"prompts.sources.{name}.num_draws must be at least the {sum(asked)} problems "
                    f"that are asked for, not {source.num_draws}; more, since repeated draws are "
                    f"dropped"
                )


def _require_mixture(mixture: Mixture, sources: dict[str, Source]) -> None:
    for name in mixture.weights:
        source = sources.get(name)
        if source is None:
            raise ValueError(
                f"prompts.mixture.weights: {name!r} is none of prompts.sources: {sorted(sources)}"
            )
        if source.num_train or source.num_rl:
            raise ValueError(
                f"prompts.sources.{name}: num_train is {source.num_train} and num_rl "
                f"{source.num_rl}, but prompts.mixture.weights.{name} says how many: set both to 0"
            )
        if mixture.num_train and getattr(source, "answer_field", "") is None:
            raise ValueError(
                f"prompts.mixture.weights.{name}: the source has no answer_field, and thus no "
                f"train problems: give it num_rl of its own, outside the mixture"
            )


class Counts(NamedTuple):
    """How many problems a source gives."""

    num_train: int
    num_rl: int
    num_evaluate: int


def count_problems(params: PromptsParams, name: str) -> Counts:
    """Returns how many problems the source `name` gives: what it says, or the mixture's share."""
    source = params.sources[name]
    if params.mixture is None or name not in params.mixture.weights:
        return Counts(source.num_train, source.num_rl, source.num_evaluate)
    train, rl = params.mixture.divide()
    return Counts(train[name], rl[name], source.num_evaluate)


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptsInputs:
    """The worked examples; problems and traces are pinned by digests in the parameters."""

    examples: Path


def inputs(params: PromptsParams, cell: Cell) -> PromptsInputs:
    """Returns the input paths, relative to the repository root."""
    del cell
    return PromptsInputs(examples=Path(params.examples))
