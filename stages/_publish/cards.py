"""The card of what is published, in the form that the Hugging Face hub reads: from the record."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

from huggingface_hub import DatasetCardData, EvalResult, ModelCardData
from ruamel.yaml import YAML

from stages._audit.published import flatten, read_json
from stages._contract.places import metrics_of
from stages._publish.licence import MODELS, OWN
from stages._publish.text import ABOUT, CARD, LIMITS, USE
from stages.report.table import percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stages._publish.files import File
    from stages._publish.licence import Source
    from stages._publish.record import Artifact
    from stages._publish.scores import Scores

CHECKPOINTS = ("fetch", "sft", "grpo", "preference")
DATA = ("prompts", "generate", "filter")


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a card is written from.

    `commit` recorded the artifact; `digest` is the folder's in the manifest; `files` are its files;
    `scores` are None for what is not evaluated; `repository` is where the code is, or "", and
    `address` where the artifact can be loaded from.
    """

    root: Path
    artifact: Artifact
    commit: str
    files: Sequence[File]
    digest: str
    licence: str
    sources: Sequence[Source]
    scores: Scores | None
    repository: str
    address: str

    def read_run(self, artifact: Artifact) -> dict[str, Any]:
        """Returns the manifest of the stage that made the artifact."""
        run: dict[str, Any] = read_json(self.root / "runs" / f"{artifact.run}.json")
        return run


def make_card(facts: Facts) -> str:
    """Returns the card: front matter in YAML, then Markdown. Equal records have equal cards."""
    artifact = facts.artifact
    of_stage = metrics_of(artifact.kind, artifact.read_params(facts.root), artifact.cell)
    measured = {
        key: value
        for path in of_stage.values()
        for key, value in flatten("", read_json(facts.root / path)).items()
    }
    text = CARD.format(
        name=artifact.name,
        about=ABOUT[artifact.kind],
        run=artifact.run,
        use=USE[artifact.kind].format(address=facts.address, config=_first_config(facts)),
        results=_render_scores(facts),
        measured=_render_yaml(measured),
        params=_render_yaml(artifact.read_params(facts.root)),
        stage=artifact.kind,
        lineage=_render_lineage(facts),
        environment=_describe_environment(facts),
        sources=_render_sources(facts),
        licence=facts.licence,
        limits=LIMITS[artifact.kind],
        repository=facts.repository or "<the repository that has this commit>",
        commit=facts.commit,
        target=artifact.target,
        digest=facts.digest,
        md5=artifact.md5,
    )
    text = re.sub(r"\n{3,}", "\n\n", text)
    return f"---\n{_describe(facts)}\n---\n\n{text}"


def _describe(facts: Facts) -> str:
    """Returns the front matter."""
    artifact = facts.artifact
    tags = ["rederive", "reproducibility", "reasoning", artifact.kind]
    if artifact.kind in DATA:
        data = DatasetCardData(
            license=facts.licence.lower(),
            pretty_name=f"Rederive: {artifact.name}",
            task_categories=["text-generation"],
            tags=tags,
            configs=_list_configs(artifact, facts.files),
        )
        return str(data.to_yaml())
    is_judge = artifact.kind == "preference"
    base = next((a for a in (artifact, *artifact.sources) if a.kind == "fetch"), None)
    source = base.read_params(facts.root)["source"] if base else {}
    model = ModelCardData(
        model_name=f"rederive-{artifact.name.replace('/', '-')}",
        license=facts.licence.lower(),
        library_name="transformers",
        pipeline_tag="text-classification" if is_judge else "text-generation",
        base_model=source.get("repo") or MODELS.get(source.get("package", "")),
        tags=tags,
        eval_results=_list_results(facts.scores.results) if facts.scores else None,
    )
    return str(model.to_yaml())


def _first_config(facts: Facts) -> str:
    configs = _list_configs(facts.artifact, facts.files)
    return str(configs[0]["config_name"]) if configs else ""


def _list_configs(artifact: Artifact, files: Sequence[File]) -> list[dict[str, Any]]:
    """Returns the hub's configurations: files with the same columns, those with rows alone."""
    paths = [file.path for file in files if file.path.endswith(".jsonl") and file.size]
    if artifact.kind == "generate":
        groups = {"default": paths}
    else:
        first = "train.jsonl"
        rest = [path for path in paths if path != first]
        groups = {"default": [first]} if first in paths else {}
        groups |= {re.sub(r"\W", "-", path.removesuffix(".jsonl")): [path] for path in rest}
    return [
        {
            "config_name": name,
            "data_files": [
                {"split": "test" if found[0].startswith("evaluate/") else "train", "path": found}
            ],
        }
        for name, found in groups.items()
    ]


def _list_results(results: Mapping[str, Mapping[str, Any]]) -> list[EvalResult]:
    """Returns the accuracies as the hub reads them, from evaluate's results by task."""
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=task,
            dataset_name=f"Rederive, {task}",
            metric_type="accuracy",
            metric_value=cell["accuracy"],
        )
        for task, cell in results.items()
    ]


def _render_results(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns a Markdown table with one row per task, from evaluate's results by task."""
    lines = ["| task | % right | % in the format | problems |", "|---|---:|---:|---:|"]
    for task, cell in results.items():
        shares = [percent(cell[k], cell[f"{k}_stderr"]) for k in ("accuracy", "format_rate")]
        lines.append(f"| {task} | {' | '.join(shares)} | {cell['num_problems']} |")
    return "\n".join(lines)


def _render_scores(facts: Facts) -> str:
    scores = facts.scores
    if scores is None:
        return ""
    seed = scores.seeds[0]
    lines = ["## Results", "", _render_results(scores.results), ""]
    lines.append(
        f"Value ± standard error over problems, for one run, with seed {seed}. How a task asks and "
        "judges is in its file in `stages/evaluate/tasks/`."
    )
    lines.append("")
    if len(scores.seeds) > 1:
        seeds = ", ".join(str(seed) for seed in scores.seeds)
        lines += [f"With other seeds of sampling, selection and training ({seeds}):", ""]
        lines += ["| task | % right, mean ± standard error over seeds | each |", "|---|---:|---:|"]
        lines.append(scores.render_seeds())
    else:
        lines.append("No other seed is recorded: how much chance is in these numbers is not known.")
    return "\n".join(lines)


def _render_lineage(facts: Facts) -> str:
    """Returns Markdown rows: what the artifact was made from, in order, and itself."""
    rows = []
    for artifact in (*facts.artifact.sources, facts.artifact):
        run = facts.read_run(artifact)
        seed = artifact.read_params(facts.root).get("seed", "–")
        rows.append(
            f"| `{artifact.name}` | {artifact.kind} | {seed} | `{run['commit'][:10]}` | "
            f"`{artifact.md5}` |"
        )
    return "\n".join(rows)


def _describe_environment(facts: Facts) -> str:
    run = facts.read_run(facts.artifact)
    image = facts.artifact.read_params(facts.root)["image"]
    where = (
        f"in the image with sha256 `{run['image_sha256']}`"
        if run["image_sha256"]
        else "in a virtual environment, not in an image"
    )
    machine = run["machine"]
    text = f"It ran {where}, with the packages of `containers/{image}.lock.txt`"
    locked = facts.root / f"containers/{image}.lock.yaml"
    if locked.is_file():
        digest = YAML(typ="safe", pure=True).load(locked).get("sif_sha256")
        text += f" (the image of these packages has sha256 `{digest}`)"
    return f"{text}, on {machine['num_cpus']} cores of {machine['cpu']}, Python {run['python']}."


def _render_sources(facts: Facts) -> str:
    rows = [
        f"| {source.what} | {source.origin} | {source.licence or 'not known here: read it there'} |"
        for source in facts.sources
    ]
    return "\n".join([*rows, f"| code of the stages | this repository | {OWN} |"])


def _render_yaml(values: dict[str, Any]) -> str:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 100
    text = StringIO()
    yaml.dump(values, text)
    return text.getvalue().rstrip()
