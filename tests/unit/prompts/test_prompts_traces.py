"""Published traces: which are kept, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import pytest

from stages._contract.artifacts import read_jsonl, sha256_file
from stages._contract.params import ParamsError, load
from stages.prompts.decontaminate import LeakDetector
from stages.prompts.matches import Matches
from stages.prompts.params import (
    BoilerplateParams,
    DecontaminationParams,
    HubTraces,
    JsonlSource,
    JsonlTraces,
    PromptsInputs,
    PromptsParams,
)
from stages.prompts.sources import Problem
from stages.prompts.stage import run
from stages.prompts.traces import read_messages, write_traces
from tests.local_hub import REVISION, point_at, serve_dataset

DECONTAMINATION = DecontaminationParams(
    ngram=4,
    boilerplate=BoilerplateParams(ngram=3, min_frequency=0.5, num_rows=1000),
    against={},
    max_matches=2,
)
CARD = b"""---
configs:
- config_name: all
  data_files:
  - split: train
    path: all/train.jsonl
---
"""
EVALUATION = ("e-1", Problem("How many cats sleep on the red mat?", "12", "Three times four is 12"))


def conversation(*texts: str) -> list[dict[str, str]]:
    """Returns messages of user and assistant in turns."""
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


def jsonl(path: Path, rows: list[Any], **changes: Any) -> JsonlTraces:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings: dict[str, Any] = {
        "path": str(path),
        "sha256": sha256_file(path),
        "messages_field": "messages",
        "max_rows": None,
        "max_invalid": 0,
    }
    return JsonlTraces(kind="jsonl", **(settings | changes))


def write(
    traces: JsonlTraces | HubTraces, path: Path, system_prompt: str | None = None, seed: int = 0
) -> dict[str, Any]:
    detector = LeakDetector([EVALUATION], [], DECONTAMINATION)
    return write_traces(traces, seed, system_prompt, detector, Matches("traces", 2), path)


def rows_of(*conversations: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [{"messages": messages} for messages in conversations]


def test_rows_are_what_filter_writes(tmp_path: Path) -> None:
    rows = rows_of(conversation("1 + 1?", "<think>\nadd\n</think>\n2"))
    write(jsonl(tmp_path / "x.jsonl", rows), tmp_path / "out.jsonl", system_prompt="Think.")
    (row,) = read_jsonl(tmp_path / "out.jsonl")
    assert row.pop("id").startswith("trace-")
    assert row == {
        "prompt": [
            {"role": "system", "content": "Think."},
            {"role": "user", "content": "1 + 1?"},
        ],
        "completion": [{"role": "assistant", "content": "<think>\nadd\n</think>\n2"}],
    }


def test_a_system_message_of_its_own_stays_and_turns_are_the_prompt(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Own."}, *conversation("a?", "b", "c?", " d\n")]
    write(jsonl(tmp_path / "x.jsonl", rows_of(messages)), tmp_path / "out.jsonl", "Think.")
    (row,) = read_jsonl(tmp_path / "out.jsonl")
    assert row["prompt"] == messages[:-1]
    assert row["completion"] == [{"role": "assistant", "content": "d"}]


def test_what_leaks_goes_by_question_and_by_trace(tmp_path: Path) -> None:
    rows = rows_of(
        conversation("So how many cats sleep on a bed?", "None."),
        conversation("On the mat sleep how many red cats?", "One."),
        conversation("A riddle?", "I recall: cats sleep on the red mat."),
        conversation("Another?", "We know that three times four is 12."),
        conversation("What is left?", "This is."),
        conversation("What is left?", "This is."),
    )
    report = write(jsonl(tmp_path / "x.jsonl", rows), tmp_path / "out.jsonl")
    assert report["source"] == {
        "rows": 6,
        "invalid": 0,
        "duplicates": 1,
        "contaminated_ngram": 3,
        "contaminated_whole": 1,
    }
    assert report["kept"] == 1
    kept = read_jsonl(tmp_path / "out.jsonl")
    assert [row["prompt"][0]["content"] for row in kept] == ["What is left?"]
    shown = [(entry["reason"], entry["shared"]) for entry in report["removed_examples"]]
    assert shown[0] == ("ngram", "how many cats sleep")
    assert shown[1] == ("whole", "on the mat sleep how many red cats")
    assert shown[3] == ("ngram", "three times four is")
    assert {entry["evaluation_id"] for entry in report["removed_examples"]} == {"e-1"}


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        [],
        ["text"],
        conversation("a question alone"),
        conversation("q", "a", "q"),
        conversation("q", " "),
        [{"role": "assistant", "content": "a"}],
        [{"role": "user", "content": "q"}, {"role": "tool", "content": "a"}],
        [{"role": "user", "content": None}, {"role": "assistant", "content": "a"}],
        [{"role": "system", "content": "s"}],
        [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
    ],
)
def test_what_is_no_conversation(value: object) -> None:
    assert read_messages(value) is None


def test_other_keys_of_messages_are_left_out() -> None:
    messages = [{**message, "tool_calls": None} for message in conversation("q", "a")]
    assert read_messages(messages) == conversation("q", "a")


def test_invalid_rows_count_against_the_limit(tmp_path: Path) -> None:
    rows = rows_of(conversation("q"), conversation("q", "a"), conversation("q", ""))
    report = write(jsonl(tmp_path / "x.jsonl", rows, max_invalid=2), tmp_path / "out.jsonl")
    assert report["source"]["invalid"] == 2
    assert report["kept"] == 1
    message = r"after 3 rows, 2 are no conversations .*first is row 1.* more than max_invalid = 1"
    with pytest.raises(ValueError, match=message):
        write(jsonl(tmp_path / "x.jsonl", rows, max_invalid=1), tmp_path / "out.jsonl")


def test_mistakes_are_named(tmp_path: Path) -> None:
    good = jsonl(tmp_path / "x.jsonl", rows_of(conversation("q", "a")))
    with pytest.raises(ValueError, match=r"row 1 has no field 'chat'; it has \['messages'\]"):
        write(jsonl(tmp_path / "y.jsonl", rows_of([]), messages_field="chat"), tmp_path / "o")
    Path(good.path).write_text("{}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"prompts\.traces\.sha256 is .* the file was changed"):
        write(good, tmp_path / "o")
    leak = jsonl(tmp_path / "z.jsonl", rows_of(conversation(EVALUATION[1].question, "a")))
    with pytest.raises(ValueError, match="no trace is left to train on .*'contaminated_ngram': 1"):
        write(leak, tmp_path / "o")


def test_an_empty_file_has_no_trace(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no trace is left"):
        write(jsonl(tmp_path / "x.jsonl", []), tmp_path / "o")


def test_max_rows_draws_by_the_seed_and_keeps_the_order(tmp_path: Path) -> None:
    rows = rows_of(*(conversation(f"Question {n}?", f"{n}") for n in range(40)))
    drawn = []
    for seed in (0, 0, 1):
        traces = jsonl(tmp_path / "x.jsonl", rows, max_rows=10)
        assert write(traces, tmp_path / "out.jsonl", seed=seed)["kept"] == 10
        kept = read_jsonl(tmp_path / "out.jsonl")
        drawn.append([int(row["completion"][0]["content"]) for row in kept])
        assert len({row["id"] for row in kept}) == 10
    assert drawn[0] == drawn[1] == sorted(drawn[0]) != drawn[2]
    backwards = jsonl(tmp_path / "x.jsonl", rows[::-1], max_rows=10)
    write(backwards, tmp_path / "out.jsonl")
    again = [int(row["completion"][0]["content"]) for row in read_jsonl(tmp_path / "out.jsonl")]
    assert again == drawn[0][::-1]


def point_datasets_at(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Does what HF_ENDPOINT and HF_HOME do when they are set before the import."""
    point_at(address, monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache / "datasets")


def test_traces_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(*(conversation(f"Question {n}?", f"{n}") for n in range(3)))
    data = "".join(json.dumps({**row, "num_tokens": 3}) + "\n" for row in rows).encode()
    traces = HubTraces(
        kind="hub",
        repo="owner/name",
        revision=REVISION,
        subset="all",
        split="train",
        messages_field="messages",
        max_rows=2,
        max_invalid=0,
    )
    requests: list[str] = []
    with serve_dataset({"README.md": CARD, "all/train.jsonl": data}, requests) as address:
        point_datasets_at(address, tmp_path / "cache", monkeypatch)
        report = write(traces, tmp_path / "out.jsonl")
        assert (report["source"]["rows"], report["kept"]) == (3, 2)
        with pytest.raises(ValueError, match=r"owner/name at .* has no subset 'math' with split"):
            write(HubTraces(**{**settings(traces), "subset": "math"}), tmp_path / "o")
    assert {path for path in requests if path.endswith(".jsonl")} == {
        f"/datasets/owner/name/resolve/{REVISION}/all/train.jsonl"
    }
    for row in read_jsonl(tmp_path / "out.jsonl"):
        assert row["prompt"][0]["content"] == f"Question {row['completion'][0]['content']}?"


def settings(traces: HubTraces) -> dict[str, Any]:
    return {name: getattr(traces, name) for name in HubTraces.__dataclass_fields__}


def stage_params(problems: Path, traces: JsonlTraces | None) -> PromptsParams:
    source = JsonlSource(
        kind="jsonl",
        path=str(problems),
        sha256=sha256_file(problems),
        question_field="question",
        answer_field="answer",
        answer_after=None,
        solution_field=None,
        columns=[],
        max_invalid=0,
        num_train=1,
        num_rl=1,
        num_evaluate=1,
    )
    return PromptsParams(
        image="cpu",
        seed=0,
        system_prompt=None,
        examples="unused.jsonl",
        decontamination=DECONTAMINATION,
        near_duplicates=None,
        sources={"t": source},
        mixture=None,
        traces=traces,
    )


def test_stage_writes_traces_if_they_are_asked_for(tmp_path: Path) -> None:
    problems = tmp_path / "problems.jsonl"
    rows = [{"question": f"Is {n} more than {n + 1}?", "answer": "no"} for n in range(9)]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    examples = tmp_path / "examples.jsonl"
    examples.write_text('{"question": "q?", "response": "r"}\n', encoding="utf-8")
    asked = [conversation(row["question"], "no") for row in rows]
    outs = {}
    for name, traces in (
        ("without", None),
        ("with", jsonl(tmp_path / "traces.jsonl", rows_of(*asked))),
    ):
        out = tmp_path / name
        out.mkdir()
        metrics = run(
            stage_params(problems, traces), PromptsInputs(examples=examples), out, tmp_path
        )
        outs[name] = (metrics["prompts"], out)
    counts, folder = outs["with"]
    evaluated = read_jsonl(folder / "evaluate/t.jsonl")[0]["prompt"][0]["content"]
    kept = [row["prompt"][0]["content"] for row in read_jsonl(folder / "traces.jsonl")]
    assert kept == [row["question"] for row in rows if row["question"] != evaluated]
    assert counts["traces"]["kept"] == 8
    assert counts["traces"]["source"]["contaminated_ngram"] == 1
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["traces"]["removed_examples"][0]["question"] == evaluated
    assert report["traces"]["removed_by_evaluation_set"] == {"t": 1}
    matches = read_jsonl(folder / "matches.jsonl")
    assert matches[-1]["task"] == "traces"
    assert matches[-1]["evaluation_id"] == read_jsonl(folder / "evaluate/t.jsonl")[0]["id"]
    plain_counts, plain = outs["without"]
    assert plain_counts == {"t": counts["t"]}
    assert not (plain / "traces.jsonl").exists()
    assert "traces" not in json.loads((plain / "report.json").read_text(encoding="utf-8"))
    for name in ("train.jsonl", "rl.jsonl", "evaluate/t.jsonl", "examples.jsonl"):
        assert (plain / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"revision": "main"}, r"prompts\.traces\.revision must be a commit of 40 hex digits"),
        ({"max_rows": 0}, r"prompts\.traces\.max_rows must be >= 1, or null for all, not 0"),
        ({"max_invalid": -1}, r"prompts\.traces\.max_invalid must be >= 0, not -1"),
        ({"messages_field": ""}, r"prompts\.traces\.messages_field must name a field"),
    ],
)
def test_bounds(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "kind": "hub",
        "repo": "owner/name",
        "revision": REVISION,
        "subset": None,
        "split": "train",
        "messages_field": "messages",
        "max_rows": None,
        "max_invalid": 0,
    }
    assert HubTraces(**good).revision == REVISION
    with pytest.raises(ValueError, match=message):
        HubTraces(**(good | change))


def test_params_take_null_and_either_kind(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "params.yaml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("  traces: null")]
    assert len(lines) == 1
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    assert load(path, "prompts").traces is None
    traces = f"{{kind: jsonl, path: x, sha256: {'a' * 64}, messages_field: m, max_invalid: 0}}"
    path.write_text(text.replace(lines[0], f"  traces: {traces}"), encoding="utf-8")
    with pytest.raises(ParamsError, match=r"prompts\.traces: 'max_rows' is missing"):
        load(path, "prompts")
    traces = traces.replace("max_invalid", "max_rows: 5, max_invalid")
    path.write_text(text.replace(lines[0], f"  traces: {traces}"), encoding="utf-8")
    assert load(path, "prompts").traces.max_rows == 5
    renamed = text.replace(lines[0], f"  traces: {traces}").replace(
        "    larger_sums:", "    traces:"
    )
    path.write_text(renamed, encoding="utf-8")
    with pytest.raises(ParamsError, match="'traces' is the name under which .* rename the source"):
        load(path, "prompts")
