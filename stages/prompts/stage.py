"""Makes the train, rl and evaluation problems, and reads published traces."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import read_jsonl, write_json, write_jsonl
from stages.prompts.matches import Matches
from stages.prompts.pool import Store, make_pool
from stages.prompts.sources import read_evaluation, read_source
from stages.prompts.split import split
from stages.prompts.traces import write_traces

if TYPE_CHECKING:
    from pathlib import Path

    from stages.prompts.params import PromptsInputs, PromptsParams


def run(params: PromptsParams, inputs: PromptsInputs, out: Path, work: Path) -> dict[str, Any]:
    """Writes train.jsonl, rl.jsonl, evaluate/<task>.jsonl and examples.jsonl to `out`.

    Writes traces.jsonl, too, if `params.traces` names some, and matches.jsonl and report.json about
    what was left out. Problems are in a nameless file in `work` until they are written.

    Returns the counts per task: `source` (rows and why some were removed) and `splits`; of the
    traces `source` and `kept`.

    Raises:
        ValueError: a source cannot be read, or has too few problems; names the key.
    """
    examples = read_examples(inputs.examples)
    shown = [row["prompt"][0]["content"] for row in examples]
    pools = {}
    for task, source in params.sources.items():
        num_invalid: Counter[str] = Counter()
        problems = read_source(task, source, params.seed, num_invalid)
        pools[task] = make_pool(problems, params.seed, Store(work), shown)
        pools[task].counts.update(num_invalid)
    against = [
        entry
        for name, source in params.decontamination.against.items()
        for entry in read_evaluation(name, source)
    ]
    splits = split(pools, params, against)
    write_jsonl(out / "train.jsonl", splits.train)
    write_jsonl(out / "rl.jsonl", splits.rl)
    (out / "evaluate").mkdir()
    for task, rows in splits.evaluate.items():
        write_jsonl(out / "evaluate" / f"{task}.jsonl", rows)
    write_jsonl(out / "examples.jsonl", examples)
    counts = {
        task: {"source": report["source"], "splits": report["splits"]}
        for task, report in splits.report["tasks"].items()
    }
    matches = list(splits.matches.values())
    if params.traces is not None:
        matches.append(Matches("traces", params.decontamination.max_matches))
        report = write_traces(
            params.traces,
            params.seed,
            params.system_prompt,
            splits.detector,
            matches[-1],
            out / "traces.jsonl",
        )
        counts["traces"] = {"source": report["source"], "kept": report["kept"]}
        splits.report["traces"] = report
    write_jsonl(out / "matches.jsonl", (row for found in matches for row in found.rows))
    write_json(out / "report.json", splits.report)
    return {"prompts": counts}


def read_examples(path: Path) -> list[dict[str, Any]]:
    """Returns the worked examples as {"prompt": [user message], "response"}.

    Raises:
        ValueError: a row has other fields than question and response, or they are no texts.
    """
    examples = []
    for number, row in enumerate(read_jsonl(path), start=1):
        if row.keys() != {"question", "response"} or not all(
            isinstance(text, str) and text for text in row.values()
        ):
            raise ValueError(
                f"{path}:{number} must have a question and a response, both texts, and nothing "
                f"else; it has {sorted(row)}"
            )
        message = {"role": "user", "content": row["question"]}
        examples.append({"prompt": [message], "response": row["response"]})
    return examples
