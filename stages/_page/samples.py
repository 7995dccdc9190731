"""What the models wrote, problem by problem, with the rewards of each response by component."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import read_jsonl
from stages._contract.params import load
from stages._page.graph import CORE
from stages.grpo.rewards import PROGRAMS, get_reward_funcs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from stages._page.graph import Graph, Stage
    from stages._page.results import Table

Row = dict[str, Any]
MAX_PROBLEMS = 240  # per task and source
MAX_RESPONSES = 4  # per problem and model
MAX_CHARS = 4_000  # of a text
MAX_TOTAL_CHARS = 1_000_000  # of a source's texts, so that the page stays a few megabytes
RIGHT, WRONG, UNFORMATTED, KEPT = "right", "wrong", "not in the format", "kept"
# Those that judge a response by itself, with the reference answer at most.
_JUDGED = frozenset(
    {
        "accuracy",
        "answer_accuracy",
        "answer_format",
        "flexible_accuracy",
        "format",
        "language_consistency",
        "reasoning_steps",
        "repetition_penalty",
        "tag_count",
    }
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where responses come from: a table's evaluations, or the traces that a filter judged."""

    title: str
    models: list[str]
    pairs: Sequence[Sequence[str]]  # of models, first and second
    num_problems: int  # of those that there are
    problems: list[Row]  # that are shown
    is_cut: bool  # whether texts or responses were left out of these


class Rewards:
    """The rewards that the core's `grpo` learns from, asked about any response."""

    def __init__(self, root: Path) -> None:
        """Reads their names and weights."""
        params = load(root / "params.yaml", "grpo")
        self.weights: dict[str, float] = {
            name: weight for name, weight in params.rewards.items() if name in _JUDGED
        }
        self.left_out = sorted(params.rewards.keys() - self.weights.keys())
        assert not PROGRAMS & self.weights.keys(), "nothing is run for a page"
        asked = SimpleNamespace(reward_funcs=list(self.weights), **asdict(params.reward_args))
        self._functions = dict(zip(self.weights, get_reward_funcs(asked), strict=True))

    def judge(self, responses: Sequence[str], answers: Sequence[str]) -> list[Row]:
        """Returns the values by name for each response; None where a reward has no verdict."""
        if not responses:
            return []
        columns = {"answer": answers, "solution": answers}
        values = {
            name: function(completions=list(responses), **columns)
            for name, function in self._functions.items()
        }
        return [
            {name: found[index] for name, found in values.items()}
            for index in range(len(responses))
        ]


def read_samples(
    root: Path, graph: Graph, tables: Sequence[Table], rewards: Rewards
) -> tuple[list[Source], list[str]]:
    """Returns the sources that are here, and what is missing with the command that makes it."""
    sources, missing = [], []
    for table in tables:
        if table.tasks:
            sources.append(_read_evaluations(root, table, rewards))
        else:
            missing.append(f"evaluations of {_title(table.graph)}: {table.command}")
    for stage in graph.stages.values():
        if stage.kind == "filter":
            folder = root / stage.outs[0].path
            if (folder / "rejects.jsonl").is_file() and (folder / "train.jsonl").is_file():
                sources.append(_read_traces(root, graph, stage, rewards))
            else:
                how = "dvc pull or dvc repro" if stage.manifest else "dvc repro"
                missing.append(f"traces of {stage.name}: {how} {stage.address}")
    return sources, missing


def _title(graph: str) -> str:
    return "the core recipe" if graph == CORE else "the tracks"


def _read_evaluations(root: Path, table: Table, rewards: Rewards) -> Source:
    problems: dict[tuple[str, str], Row] = {}
    num_problems, is_cut = 0, False
    for task in table.params.tasks:
        shown: set[str] = set()
        for model in table.params.models:
            rows = read_jsonl(root / table.folder / f"report/samples/{model}/{task}.jsonl")
            if not shown:
                num_problems += len(rows)
                shown = {row["id"] for row in rows[:MAX_PROBLEMS]}
            rows = [row for row in rows if row["id"] in shown]
            for row in rows:
                problem = problems.setdefault((task, row["id"]), _make_problem(task, row))
                problem["responses"] += _list_responses(model, row)
                is_cut |= len(row["correct"]) > MAX_RESPONSES
    kept, was_cut = _limit(list(problems.values()))
    _add_rewards(kept, rewards)
    pairs = table.params.pairs
    models = list(table.params.models)
    title = f"Evaluation, {_title(table.graph)}"
    return Source(title, models, pairs, num_problems, kept, is_cut or was_cut)


def _make_problem(task: str, row: Row) -> Row:
    return {
        "task": task,
        "id": row["id"],
        "question": row["question"],
        "answer": row["answer"],
        "responses": [],
    }


def _list_responses(model: str, row: Row) -> Iterator[Row]:
    """Yields a problem's responses; of long ones the report has kept the answers alone."""
    texts = row.get("responses") or row.get("answers", [])
    for index, text in list(enumerate(texts))[:MAX_RESPONSES]:
        is_right, is_formatted = row["correct"][index], row["formatted"][index]
        yield {
            "model": model,
            "text": text or "",
            "is_answer": "responses" not in row,
            "outcome": RIGHT if is_right else WRONG if is_formatted else UNFORMATTED,
            "tokens": row["num_tokens"][index] if "num_tokens" in row else None,
        }


def _read_traces(root: Path, graph: Graph, stage: Stage, rewards: Rewards) -> Source:
    """Returns the traces that a filter judged, those it kept too, by problem."""
    folder = root / stage.outs[0].path
    kept = [row for row in read_jsonl(folder / "train.jsonl") if "sample" in row]
    rejects = (
        read_jsonl(folder / "rejects.jsonl") if (folder / "rejects.jsonl").stat().st_size else []
    )
    known = {row["id"]: row for row in _read_problems(root, graph, stage)} | {
        row["id"]: row for row in kept
    }
    problems: dict[str, Row] = {}
    traces = [(row, KEPT, row["completion"][-1]["content"]) for row in kept]
    traces += [(row, row["reason"].replace("_", " "), row["response"]) for row in rejects]
    for row, outcome, text in sorted(
        traces, key=lambda trace: (trace[0]["id"], trace[0]["sample"])
    ):
        found = known.get(row["id"])
        problem = problems.setdefault(
            row["id"],
            {
                "task": found["task"] if found else "",
                "id": row["id"],
                "question": found["prompt"][-1]["content"] if found else f"(problem {row['id']})",
                "answer": (found or {}).get("answer") or "",
                "responses": [],
            },
        )
        sample = {"model": f"trace {row['sample']}", "text": text, "is_answer": False}
        problem["responses"].append(sample | {"outcome": outcome, "tokens": None})
    shown, is_cut = _limit(list(problems.values())[:MAX_PROBLEMS])
    _add_rewards(shown, rewards)
    title = f"Training traces, {stage.name if stage.graph == CORE else stage.address}"
    return Source(title, [], [], len(problems), shown, is_cut)


def _read_problems(root: Path, graph: Graph, stage: Stage) -> list[Row]:
    """Returns the problems of the traces, from the outputs that the filter reads, if here."""
    found: list[Row] = []
    for need in stage.needs:
        other = graph.stages[need]
        path = root / other.outs[0].path / "train.jsonl"
        if other.kind == "prompts" and path.is_file():
            found += read_jsonl(path)
    return found


def _limit(problems: list[Row]) -> tuple[list[Row], bool]:
    """Returns as many problems as the page has room for, texts cut, and whether any was."""
    kept, num_chars, is_cut = [], 0, False
    for problem in problems:
        problem["responses"] = list(problem["responses"])
        for entry in problem["responses"]:
            if len(entry["text"]) > MAX_CHARS:
                more = len(entry["text"]) - MAX_CHARS
                entry["text"] = f"{entry['text'][:MAX_CHARS]} […{more:,} characters more]"
                is_cut = True
        num_chars += len(problem["question"])
        num_chars += sum(len(entry["text"]) for entry in problem["responses"])
        if num_chars > MAX_TOTAL_CHARS:
            break
        kept.append(problem)
    return kept, is_cut


def _add_rewards(problems: Sequence[Mapping[str, Any]], rewards: Rewards) -> None:
    """Gives each whole response its rewards, of problems that have an answer to judge it by."""
    pairs = [
        (entry, problem["answer"])
        for problem in problems
        for entry in problem["responses"]
        if problem["answer"] and not entry["is_answer"] and len(entry["text"]) <= MAX_CHARS
    ]
    found = rewards.judge([entry["text"] for entry, _ in pairs], [answer for _, answer in pairs])
    for (entry, _), values in zip(pairs, found, strict=True):
        entry["rewards"] = values
