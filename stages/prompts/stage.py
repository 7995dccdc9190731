"""Makes the train, rl and evaluation problems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages._contract.artifacts import write_json, write_jsonl
from stages.prompts.sources import read_source
from stages.prompts.split import make_pool, split

if TYPE_CHECKING:
    from pathlib import Path

    from stages.prompts.params import PromptsInputs, PromptsParams


def run(params: PromptsParams, inputs: PromptsInputs, out: Path, work: Path) -> dict[str, Any]:
    """Writes train.jsonl, rl.jsonl, evaluate/<task>.jsonl and report.json into `out`.

    Returns the counts per task: `source` (rows and why some were removed) and `splits`.

    Raises:
        ValueError: a source cannot be read, or has too few problems; names the key.
    """
    del inputs, work
    pools = {}
    for task, source in params.sources.items():
        problems, num_invalid = read_source(task, source, params.seed)
        pools[task] = make_pool(problems, params.seed)
        pools[task].counts["invalid"] = num_invalid
    splits = split(pools, params)
    write_jsonl(out / "train.jsonl", splits.train)
    write_jsonl(out / "rl.jsonl", splits.rl)
    (out / "evaluate").mkdir()
    for task, rows in splits.evaluate.items():
        write_jsonl(out / "evaluate" / f"{task}.jsonl", rows)
    write_json(out / "report.json", splits.report)
    return {
        task: {"source": report["source"], "splits": report["splits"]}
        for task, report in splits.report["tasks"].items()
    }
