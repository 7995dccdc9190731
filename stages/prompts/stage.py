"""Makes the train, rl and evaluation problems, and reads published traces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import read_jsonl, write_json, write_jsonl
from stages.prompts.sources import read_source
from stages.prompts.split import make_pool, split
from stages.prompts.traces import write_traces

if TYPE_CHECKING:
    from pathlib import Path

    from stages.prompts.params import PromptsInputs, PromptsParams


def run(params: PromptsParams, inputs: PromptsInputs, out: Path, work: Path) -> dict[str, Any]:
    """Writes train.jsonl, rl.jsonl, evaluate/<task>.jsonl, examples.jsonl and report.json to `out`.

    Writes traces.jsonl, too, if `params.traces` names some. Returns the counts per task: `source`
    (rows and why some were removed) and `splits`; of the traces `source` and `kept`.

    Raises:
        ValueError: a source cannot be read, or has too few problems; names the key.
    """
    del work
    examples = read_examples(inputs.examples)
    pools = {}
    for task, source in params.sources.items():
        problems, num_invalid = read_source(task, source, params.seed)
        pools[task] = make_pool(problems, params.seed)
        pools[task].counts["invalid"] = num_invalid
    splits = split(pools, params, [row["prompt"][0]["content"] for row in examples])
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
    if params.traces is not None:
        report = write_traces(
            params.traces,
            params.seed,
            params.system_prompt,
            splits.detector,
            out / "traces.jsonl",
        )
        counts["traces"] = {"source": report["source"], "kept": report["kept"]}
        splits.report["traces"] = report
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
