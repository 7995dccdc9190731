"""A stage that samples from a vLLM server, as `grpo` does, and a tiny model to serve."""

from __future__ import annotations

import shutil
from pathlib import Path

from ruamel.yaml import YAML

from tests.demo import make_demo, write_stage
from tests.tiny_model import write_model

ROOT = Path(__file__).parents[2]
PARAMS = {
    "size": 3,
    "seed": 7,
    "num_threads": 1,
    "cpu_isa": "native",
    "dtype": "float32",
    "use_vllm": True,
    "vllm_mode": "server",
    "vllm_gpu_memory_utilization": 0.1,
    "vllm_tensor_parallel_size": 1,
    "vllm_max_model_length": 64,
}
TYPES = {int: "int", str: "str", bool: "bool", float: "float"}
# Asks until it is told to end, and prints the first answer; its errors are TRL's own.
ASKS = """
from trl.generation.vllm_client import VLLMClient
client = VLLMClient(base_url=os.environ["R1_VLLM_SERVER"])
num = 0
while num < params.size or not (work / "go").exists():
    answer = client.generate([[1, 2, 3]], n=2, max_tokens=4, generation_kwargs={"ignore_eos": True})
    assert [len(ids) for ids in answer["completion_ids"]] == [4, 4], answer
    num += 1
    if num == params.size:
        print("the stage has its answers", flush=True)
    time.sleep(0.2)
(out / "a").write_text("1")
return {"demo": {"n": params.size}}
"""


def make_asking(repo: Path) -> None:
    """Makes a repository whose stage asks a server for a tiny model."""
    make_demo(repo)
    (repo / "stages/generate").mkdir()
    for name in ("__init__.py", "engine.py", "engine_params.py"):  # not its stage
        shutil.copy(ROOT / "stages/generate" / name, repo / "stages/generate")
    params = repo / "stages/demo/params.py"
    lines = "".join(f"    {name}: {TYPES[type(value)]}\n" for name, value in PARAMS.items())
    text = params.read_text(encoding="utf-8").replace("    size: int\n", lines)
    text = text.replace("    data: Path\n", "    data: Path\n    model: Path\n")
    text = text.replace('Path("data.txt"))', 'Path("data.txt"), model=Path("artifacts/sft"))')
    params.write_text(text, encoding="utf-8")
    values = YAML(typ="safe", pure=True).load(repo / "params.yaml")
    values["demo"] |= PARAMS
    YAML(pure=True).dump(values, repo / "params.yaml")
    graph = (repo / "dvc.yaml").read_text(encoding="utf-8")
    (repo / "dvc.yaml").write_text(graph.replace("data.txt]", "data.txt, artifacts/sft]"), "utf-8")
    write_model(repo / "artifacts/sft", num_steps=1)
    write_stage(repo, ASKS)
