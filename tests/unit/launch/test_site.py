"""Files of sites and of resources: the shipped ones load, and every mistake has its message."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages._contract.params import stage_names
from stages._launch.resources import Resources, load_resources
from stages._launch.site import ApptainerSite, LocalSite, SlurmSite, load_site

ROOT = Path(__file__).parents[3]
NEEDS = {"array": 1, "nodes": 1, "gpus_per_node": 0, "cpus_per_task": 1, "mem": "1G"}
NEEDS |= {"time": "00:01:00"}


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the current folder: a copy of what the launcher reads."""
    shutil.copytree(ROOT / "slurm", tmp_path / "slurm")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(path: Path, values: dict[str, object]) -> None:
    """Sets dotted keys of a file; `...` deletes one."""
    yaml = YAML(pure=True)
    content = yaml.load(path)
    for key, value in values.items():
        *folders, last = key.split(".")
        section = content
        for folder in folders:
            section = section[folder]
        if value is ...:
            del section[last]
        else:
            section[last] = value
    yaml.dump(content, path)


def test_example_is_a_slurm_site_whose_nulls_mean_here(repo: Path) -> None:
    site = load_site("example")
    assert isinstance(site, SlurmSite)
    assert (site.python, site.work_dir) == (sys.executable, str(repo))
    assert (site.partition, site.account, site.images) == ("hopper", None, None)
    assert (site.poll_s, site.max_requeues, site.environment) == (10.0, 3, {"NCCL_DEBUG": "WARN"})


@pytest.mark.usefixtures("repo")
def test_local_is_a_site() -> None:
    assert load_site("local") == LocalSite(kind="local")


def test_apptainer_is_a_site(repo: Path) -> None:
    text = """
    kind: apptainer
    apptainer: apptainer
    images: /images
    gpus: true
    python: python3
    binds: [/data]
    scratch: /scratch
    environment: {A: b}
    """
    (repo / "slurm/sites/box.yaml").write_text(text, encoding="utf-8")
    site = load_site("box")
    assert isinstance(site, ApptainerSite)
    assert (site.images, site.gpus, site.binds) == ("/images", True, ["/data"])


@pytest.mark.usefixtures("repo")
@pytest.mark.parametrize("name", ["exmple", "../sites/example", "", "a\nb"])
def test_unknown_site_names_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"choose one of example, local, or copy") as error:
        load_site(name)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"partitoin": "x"}, "site: unknown key 'partitoin': did you mean 'partition'?"),
        ({"qos": ...}, "site: 'qos' is missing"),
        ({"kind": "slrum"}, "site.kind must be one of local, apptainer, slurm, not 'slrum'"),
        ({"poll_s": "often"}, "site.poll_s: expected float, got str 'often'"),
        ({"poll_s": 0}, "poll_s must be above 0 and at most 600, not 0.0"),
        ({"max_requeues": -1}, "max_requeues must be >= 0, not -1"),
        ({"max_requeues": True}, "site.max_requeues: expected int, got bool True"),
        ({"gpu_flag": "gpus"}, "site.gpu_flag: expected one of 'gres', 'gpus_per_node', 'none'"),
        ({"scratch": "tmp"}, "scratch must be an absolute path, not 'tmp'"),
        ({"python": "python3"}, "python must be an absolute path, not 'python3'"),
        ({"images": "/a"}, "images needs python, the interpreter's name inside, and scratch"),
        ({"images": "a"}, "images must be an absolute path, not 'a'"),
        ({"image": None}, "site: unknown key 'image': did you mean 'images'?"),
        ({"binds": ["/a,/b"]}, "binds: '/a,/b' must be /source, /source:/target or"),
        ({"binds": ["/a:/b:rx"]}, "binds: '/a:/b:rx' must be /source, /source:/target or"),
        ({"pass_environment": ["A=b"]}, "pass_environment: 'A=b' is no name of an environment"),
        ({"modules": [1]}, "site.modules[0]: expected str, got int 1"),
        ({"account": ""}, "account holds an empty text: set null, or leave the entry out"),
    ],
)
def test_mistake_names_file_key_and_remedy(
    repo: Path, values: dict[str, object], message: str
) -> None:
    change(repo / "slurm/sites/example.yaml", values)
    with pytest.raises(ValueError, match="^slurm/sites/example.yaml: ") as error:
        load_site("example")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_file_that_is_no_yaml_is_one_line(repo: Path) -> None:
    (repo / "slurm/sites/example.yaml").write_text("kind: [", encoding="utf-8")
    with pytest.raises(ValueError, match=r"^slurm/sites/example.yaml is not valid YAML: .*$"):
        load_site("example")


def test_every_stage_has_its_needs() -> None:
    assert {stage: load_resources(stage).nodes for stage in stage_names()} == dict.fromkeys(
        stage_names(), 1
    )
    assert load_resources("grpo") == Resources(
        array=1, nodes=1, gpus_per_node=0, cpus_per_task=2, mem="12G", time="01:00:00"
    )


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("00:00:01", 1), ("01:30:00", 5400), ("2-00:00:00", 172800), ("1-02:03:04", 93784)],
)
def test_time_is_read_as_slurm_reads_it(time: str, seconds: int) -> None:
    needs = Resources(array=1, nodes=1, gpus_per_node=0, cpus_per_task=1, mem="1G", time=time)
    assert needs.time_s == seconds


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"grpo.node": 1}, "smollm2-cpu.grpo: unknown key 'node': did you mean 'nodes'?"),
        ({"grpo.mem": ...}, "resources.smollm2-cpu.grpo: 'mem' is missing"),
        (
            {"grpo.mem": "12 GB"},
            "mem must be a number with M, G or T per node, or 0 for all, not",
        ),
        ({"grpo.time": "90"}, "time must be HH:MM:SS or DAYS-HH:MM:SS above 0, not '90'"),
        ({"grpo.time": "00:00:00"}, "time must be HH:MM:SS or DAYS-HH:MM:SS above 0"),
        ({"grpo.nodes": 0}, "nodes must be from 1 to 4096, not 0"),
        ({"grpo.array": 0}, "array must be from 1 to 1000, not 0"),
        ({"grpo.array": 2}, "smollm2-cpu.grpo: array is 2, and grpo does not work in parts: set 1"),
        ({"grpo.array": 2, "grpo.nodes": 2}, "nodes is 2, and each task of an array is on one"),
        ({"grpo.gpus_per_node": -1}, "gpus_per_node must be from 0 to 64, not -1"),
        ({"grpo.cpus_per_task": "2"}, "grpo.cpus_per_task: expected int, got str '2'"),
        ({"sft.mem": ""}, "mem must be a number"),
        ({"grop": {}}, "resources.smollm2-cpu.grop: 'array' is missing"),
        ({"grpo": ...}, "smollm2-cpu.grpo is missing: give it the needs of another stage"),
        ({"grop": NEEDS}, "smollm2-cpu.grop is no stage: stages are evaluate, fetch"),
    ],
)
def test_mistake_in_the_needs_names_file_key_and_remedy(
    repo: Path, values: dict[str, object], message: str
) -> None:
    keys = {f"smollm2-cpu.{key}": value for key, value in values.items()}
    change(repo / "slurm/resources.yaml", keys)
    with pytest.raises(ValueError, match="^slurm/resources.yaml: ") as error:
        load_resources("grpo")
    assert message in str(error.value)


def test_needs_are_those_of_the_recipe(repo: Path) -> None:
    change(repo / "slurm/resources.yaml", {"other": {"grpo": NEEDS}})
    assert load_resources("grpo").mem == "12G"
    change(repo / "params.yaml", {"report.recipe": "other"})
    assert load_resources("grpo").mem == "1G"
    change(repo / "params.yaml", {"report.recipe": "another"})
    with pytest.raises(ValueError, match=r"'another', the report.recipe of params.yaml, is missin"):
        load_resources("grpo")


@pytest.mark.parametrize(
    ("num_processes", "needs", "message"),
    [
        (32, {"nodes": 4, "gpus_per_node": 8}, None),
        (4, {"nodes": 2}, None),
        (1, {"gpus_per_node": 1}, None),
        (4, {"nodes": 3}, "nodes is 3, which does not divide sft.num_processes of params.yaml, 4"),
        (1, {"nodes": 2}, "nodes is 2, which does not divide sft.num_processes of params.yaml, 1"),
        (
            16,
            {"nodes": 4, "gpus_per_node": 8},
            "4 nodes with 8 GPUs each have 32, and sft.num_processes of params.yaml is 16",
        ),
    ],
)
def test_nodes_and_gpus_fit_the_processes(
    repo: Path, num_processes: int, needs: dict[str, int], message: str | None
) -> None:
    distributed = "ddp" if num_processes > 1 else "none"
    values = {"sft.num_processes": num_processes, "sft.distributed": distributed}
    change(repo / "params.yaml", values)
    change(repo / "slurm/resources.yaml", {"smollm2-cpu.sft": NEEDS | needs})
    if message is None:
        assert load_resources("sft").nodes == needs.get("nodes", 1)
        return
    with pytest.raises(ValueError, match=r"^slurm/resources.yaml: smollm2-cpu.sft: ") as error:
        load_resources("sft")
    assert message in str(error.value)


def test_stage_without_processes_is_on_one_node(repo: Path) -> None:
    change(repo / "slurm/resources.yaml", {"smollm2-cpu.filter": NEEDS | {"nodes": 2}})
    with pytest.raises(ValueError, match="nodes is 2, and filter computes on one: set 1"):
        load_resources("filter")
