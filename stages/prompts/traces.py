"""Published reasoning traces as training data: what `filter` makes of our own, read instead.

A trace is a conversation, [system], user, assistant, ..., assistant, whose last message is what a
model learns to write. Those that leak an evaluation problem go, by the rule for problems, with all
that users say for the question and all that assistants say for the solution.

The rows are read twice, since published traces do not fit into memory: first to judge them, then to
write those that are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import iterate_jsonl, write_jsonl
from stages._contract.seeding import derive
from stages.prompts.params import HubTraces, JsonlTraces
from stages.prompts.sources import Problem, check_file, load_dataset, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stages.prompts.decontaminate import LeakDetector
    from stages.prompts.matches import Matches

Row = dict[str, Any]
Messages = list[dict[str, str]]

KEY = "prompts.traces"
_BATCH = 100  # traces whose leaks are looked for at once: a thought can have 10,000 words


def write_traces(
    traces: JsonlTraces | HubTraces,
    seed: int,
    system_prompt: str | None,
    detector: LeakDetector,
    matches: Matches,
    path: Path,
) -> dict[str, Any]:
    """Writes the traces to `path` as rows {id, prompt, completion}, in the order of their source.

    If there are more than `max_rows`, those are drawn by a hash of seed and text. A trace without a
    system message gets `system_prompt`.

    Returns the report: `source` counts the rows by what became of them, `kept` those written; leaks
    go to `matches`, too.

    Raises:
        ValueError: the source cannot be had, is not what its pin says, has more invalid rows than
            `max_invalid`, or nothing is left; names the key.
    """
    open_rows = _open(traces)
    counts: Counter[str] = Counter(
        rows=0, invalid=0, duplicates=0, contaminated_ngram=0, contaminated_whole=0
    )
    clean = _find_clean(_parse(traces, open_rows(), counts), detector, counts, matches)
    if not clean:
        raise ValueError(f"{KEY}: no trace is left to train on ({dict(counts)}): check the source")
    chosen = sorted(clean, key=lambda name: (derive(seed, "traces", name), name))[: traces.max_rows]
    again = _parse(traces, open_rows(), Counter())
    write_jsonl(path, _make_rows(again, set(chosen), system_prompt))
    return {"source": dict(counts), "kept": len(chosen), **matches.report()}


def _open(traces: JsonlTraces | HubTraces) -> Callable[[], Iterable[Row]]:
    """Returns what gives the rows from the first to the last, each time that it is called."""
    if isinstance(traces, JsonlTraces):
        path = check_file(KEY, Path(traces.path), traces.sha256)
        return lambda: iterate_jsonl(path)
    rows = load_dataset(
        KEY, traces.repo, traces.subset, revision=traces.revision, split=traces.split
    )
    return lambda: rows


def _parse(
    traces: JsonlTraces | HubTraces, rows: Iterable[Row], counts: Counter[str]
) -> Iterator[tuple[str, Messages]]:
    """Yields id and messages of each valid row, and counts the others."""
    first = None
    for number, row in enumerate(rows, start=1):
        if traces.messages_field not in row:
            raise ValueError(
                f"{KEY}.messages_field: row {number} has no field {traces.messages_field!r}; it "
                f"has {sorted(row)}"
            )
        messages = read_messages(row[traces.messages_field])
        if messages is not None:
            counts["rows"] += 1
            yield _identify(messages), messages
            continue
        first = first or number
        counts["invalid"] += 1
        if counts["invalid"] > traces.max_invalid:
            raise ValueError(
                f"{KEY}: after {number} rows, {counts['invalid']} are no conversations of user and "
                f"assistant (the first is row {first}), more than max_invalid = "
                f"{traces.max_invalid}: correct messages_field, or raise max_invalid to drop them"
            )


def read_messages(value: object) -> Messages | None:
    """Returns the messages {role, content}, stripped; None if they are no conversation to learn.

    That is: after at most one system message, users and assistants take turns, an assistant has the
    last word, and nobody says nothing.
    """
    if not isinstance(value, list):
        return None
    messages = []
    for message in value:
        if not isinstance(message, dict):
            return None
        role, content = message.get("role"), message.get("content")
        text = read_text(content) if isinstance(content, str) else ""
        if not isinstance(role, str) or not text:
            return None
        messages.append({"role": role, "content": text})
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    is_conversation = bool(turns) and turns == ["user", "assistant"] * (len(turns) // 2)
    return messages if is_conversation else None


def _identify(messages: Messages) -> str:
    text = json.dumps(messages, ensure_ascii=False, sort_keys=True)
    return f"trace-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _find_clean(
    parsed: Iterable[tuple[str, Messages]],
    detector: LeakDetector,
    counts: Counter[str],
    matches: Matches,
) -> list[str]:
    """Returns the ids of the distinct traces that leak nothing; counts the others."""
    clean = []
    distinct = _drop_repeats(parsed, counts)
    while batch := list(islice(distinct, _BATCH)):
        problems = [
            Problem(_said_by("user", messages), "", _said_by("assistant", messages))
            for _, messages in batch
        ]
        found = detector.match_all(problems)
        for (name, _), problem, match in zip(batch, problems, found, strict=True):
            if match is None:
                clean.append(name)
            else:
                counts[f"contaminated_{match.reason}"] += 1
                matches.add(name, problem, match)
    return clean


def _drop_repeats(
    parsed: Iterable[tuple[str, Messages]], counts: Counter[str]
) -> Iterator[tuple[str, Messages]]:
    seen: set[str] = set()
    for name, messages in parsed:
        if name in seen:
            counts["duplicates"] += 1
        else:
            seen.add(name)
            yield name, messages


def _said_by(role: str, messages: Messages) -> str:
    return "\n".join(message["content"] for message in messages if message["role"] == role)


def _make_rows(
    parsed: Iterable[tuple[str, Messages]], chosen: set[str], system_prompt: str | None
) -> Iterator[Row]:
    """Yields the rows of the chosen ids, each once, in the form of artifacts/filter/train.jsonl."""
    for name, messages in parsed:
        if name in chosen:
            chosen.remove(name)
            prompt = messages[:-1]
            if system_prompt is not None and prompt[0]["role"] != "system":
                prompt = [{"role": "system", "content": system_prompt}, *prompt]
            yield {"id": name, "prompt": prompt, "completion": messages[-1:]}
