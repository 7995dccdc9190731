"""A stage that fails leaves one line, an exit status and nothing else: with real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from stages._contract.artifacts import sha256_tree
from stages._contract.params import stage_names
from tests.demo import VALUES, make_demo, write_stage
from tests.git import git

ROOT = Path(__file__).parents[3]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Returns a repository with the real contract and one stage, `demo`, without its stage.py."""
    make_demo(tmp_path)
    return tmp_path


def start(repo: Path, *prefix: str) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, "-m", "stages", "run", "demo"]
    return subprocess.Popen(command, cwd=repo, text=True, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Returns the exit status and stderr."""
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


def left(repo: Path) -> list[str]:
    """Returns the files that a stage has left, its work aside."""
    folders = [repo / name for name in ("artifacts", "metrics", "runs")]
    return sorted(
        str(path.relative_to(repo))
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    )


def test_success_leaves_out_metrics_and_manifest(repo: Path) -> None:
    write_stage(repo, '(out / "a").write_text("1")\nreturn {"demo": {"n": params.size}}')
    assert finish(start(repo)) == (0, "")
    assert left(repo) == ["artifacts/demo/a", "metrics/demo.json", "runs/demo.json"]
    assert (repo / "metrics" / "demo.json").read_text() == '{\n "n": 3\n}\n'
    assert [path.name for path in (repo / "work").iterdir()] == ["live"]
    manifest = json.loads((repo / "runs" / "demo.json").read_text())
    assert manifest["inputs"] == {
        "data.txt": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    }
    assert manifest["packages"]["torch"] == "2.13.0+cpu"
    assert manifest["peak_memory_bytes"] > 1e6
    assert manifest["commit"] is None


def test_manifest_tells_a_changed_tree_from_the_files_that_a_run_writes(repo: Path) -> None:
    write_stage(repo, 'return {"demo": {"n": params.size}}')
    for name in ("dvc.lock", "tracks/a/dvc.lock", "metrics/demo.json", "runs/demo.json"):
        (repo / name).parent.mkdir(exist_ok=True, parents=True)
        (repo / name).write_text("old")
    git(repo, "init", "-q")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "all")
    (repo / "dvc.lock").write_text("new")
    (repo / "tracks/a/dvc.lock").write_text("new")
    found = []
    for size in (3, 4):
        (repo / "params.yaml").write_text(VALUES.replace("3", str(size)))
        assert finish(start(repo)) == (0, "")
        found.append(json.loads((repo / "runs" / "demo.json").read_text()))
    assert [manifest["dirty"] for manifest in found] == [False, True]
    assert {manifest["commit"] for manifest in found} == {git(repo, "rev-parse", "HEAD").strip()}


def test_user_error_is_one_line(repo: Path) -> None:
    write_stage(repo, '(out / "a").write_text("1")\nraise ValueError("demo.size is too small")')
    assert finish(start(repo)) == (1, "rederive: demo: demo.size is too small\n")
    assert left(repo) == []


def test_missing_input_is_one_line(repo: Path) -> None:
    write_stage(repo, "return {}")
    (repo / "data.txt").unlink()
    status, stderr = finish(start(repo))
    assert status == 1
    assert stderr.startswith("rederive: demo: data.txt (data) is not there: `dvc repro` makes")
    assert stderr.count("\n") == 1


def test_bad_params_are_one_line(repo: Path) -> None:
    write_stage(repo, "return {}")
    (repo / "params.yaml").write_text(VALUES.replace("3", "big"))
    assert finish(start(repo)) == (1, "rederive: demo: demo.size: expected int, got str 'big'\n")


def test_bug_gives_a_traceback(repo: Path) -> None:
    write_stage(repo, 'raise KeyError("oops")')
    status, stderr = finish(start(repo))
    assert status == 1
    assert "Traceback" in stderr
    assert left(repo) == []


def test_infinite_metric_names_its_key(repo: Path) -> None:
    write_stage(repo, 'return {"demo": {"loss": [1][0] * float("nan")}}')
    status, stderr = finish(start(repo))
    assert (status, stderr.count("\n")) == (1, 1)
    assert "the metric demo.demo.loss is nan" in stderr
    assert left(repo) == []


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_signal_leaves_nothing_but_work(
    repo: Path, number: signal.Signals, status: int, word: str
) -> None:
    write_stage(
        repo,
        """
        (out / "half").write_text("1")
        (work / "shard").write_text("1")
        (work / "ready").touch()
        time.sleep(60)
        """,
    )
    process = start(repo)
    deadline = time.monotonic() + 30
    while not list(repo.glob("work/demo/*/ready")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    assert finish(process) == (
        status,
        f"rederive: demo: {word}; nothing half-written was kept\n",
    )
    assert left(repo) == []
    assert len(list(repo.glob("work/demo/*/shard"))) == 1


def test_next_run_finds_its_work_and_other_params_do_not(repo: Path) -> None:
    body = """
    found = sorted(path.name for path in work.iterdir())
    (work / "shard").touch()
    if not (work.parent / "go").exists():
        raise ValueError(f"found {found}")
    (out / "found").write_text(str(found))
    return {"demo": {}}
    """
    write_stage(repo, body)
    assert finish(start(repo))[1] == "rederive: demo: found []\n"
    assert finish(start(repo))[1] == "rederive: demo: found ['shard']\n"
    (repo / "params.yaml").write_text(VALUES.replace("3", "4"))
    assert finish(start(repo))[1] == "rederive: demo: found []\n"
    (repo / "params.yaml").write_text(VALUES)
    (repo / "work" / "demo" / "go").touch()
    assert finish(start(repo)) == (0, "")
    assert (repo / "artifacts" / "demo" / "found").read_text() == "['shard']"


HELPER = "stages/helper/text.py"


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ("stages/demo/stage.py", []),
        (HELPER, []),  # imported by the stage
        ("stages/demo/setting.yaml", []),
        ("containers/cpu.lock.txt", []),
        ("stages/demo/README.md", ["shard"]),
        ("stages/report/params.py", ["shard"]),  # another stage's
    ],
)
def test_other_code_begins_anew(repo: Path, changed: str, found: list[str]) -> None:
    body = """
    import stages.helper.text
    found = sorted(path.name for path in work.iterdir())
    (work / "shard").touch()
    raise ValueError(f"found {found}")
    """
    write_stage(repo, body)
    for name in (HELPER, changed):
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).touch()
    assert finish(start(repo))[1] == "rederive: demo: found []\n"
    with (repo / changed).open("a") as file:
        file.write("# another\n")
    assert finish(start(repo))[1] == f"rederive: demo: found {found}\n"


def test_signal_does_not_part_the_output_from_its_manifest(repo: Path) -> None:
    """It comes when the new output is whole, and waits for metrics and manifest."""
    write_stage(repo, '(out / "a").write_text("1")\nreturn {"demo": {"n": 1}}')
    assert finish(start(repo)) == (0, "")
    body = """
    import signal
    from pathlib import Path
    real = Path.rename
    def rename(path, target):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(path, target)
    Path.rename = rename
    (out / "a").write_text("2")
    return {"demo": {"n": 2}}
    """
    write_stage(repo, body)
    assert finish(start(repo)) == (0, "")
    assert (repo / "artifacts/demo/a").read_text() == "2"
    assert json.loads((repo / "metrics/demo.json").read_text()) == {"n": 2}
    manifest = json.loads((repo / "runs/demo.json").read_text())
    assert manifest["outputs"] == {"artifacts/demo": sha256_tree(repo / "artifacts/demo")}


def test_bad_reward_model_is_one_line(repo: Path) -> None:
    params = repo / "stages/demo/params.py"
    text = params.read_text().replace("data: Path", "reward_models: list[Path]")
    text = text.replace('data=Path("data.txt")', 'reward_models=[Path("artifacts/judge")]')
    params.write_text(text)
    (repo / "artifacts/judge").mkdir(parents=True)
    (repo / "artifacts/judge/config.json").write_text("{")
    write_stage(repo, "return {}")
    status, stderr = finish(start(repo))
    assert status == 1
    assert stderr.startswith("rederive: demo: the model artifacts/judge has no *.safetensors: run")


@pytest.mark.parametrize(
    "write",
    [
        '(out / "a").write_bytes(bytes(5000))',
        'import safetensors.torch as st, torch; st.save_file({"a": torch.zeros(5000)}, out / "a")',
        'import torch; torch.save({"a": torch.zeros(5000)}, out / "a")',
    ],
    ids=["python", "safetensors", "torch"],
)
def test_full_disk_is_one_line(repo: Path, write: str) -> None:
    # A limit on the size of files stands for a full disk: the write fails in the same place.
    limit = """
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    """
    write_stage(repo, textwrap.dedent(limit) + write)
    status, stderr = finish(start(repo))
    assert status == 1
    assert stderr.startswith("rederive: demo: ")
    assert stderr.endswith("free some disk space and run again\n")
    assert stderr.count("\n") == 1
    assert left(repo) == []


def test_unknown_stage_lists_the_known_ones(repo: Path) -> None:
    command = [sys.executable, "-m", "stages", "run", "dmeo"]
    done = subprocess.run(command, cwd=repo, text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert "invalid choice: 'dmeo' (choose from 'demo', 'report')" in done.stderr


def test_check_reads_every_section_without_torch() -> None:
    code = (
        "import sys; from stages.__main__ import main; status = main(['check'])\n"
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"params.yaml: {len(stage_names())} sections are in order"
    tracks = sorted((ROOT / "tracks").glob("*/params.yaml"))
    assert [line.partition(":")[0] for line in lines[1:]] == [
        path.relative_to(ROOT).as_posix() for path in tracks
    ]


def test_environment_is_that_of_the_parameters() -> None:
    """What was set before counts only where it is the user's own affair."""
    program = """
        import json, os
        from types import SimpleNamespace
        from stages._contract.run import set_environment
        os.environ.update(OMP_NUM_THREADS="7", ONEDNN_MAX_CPU_ISA="AVX2", OMP_WAIT_POLICY="ACTIVE")
        before = dict(os.environ)
        set_environment("generate", SimpleNamespace(image="train", num_threads=2, cpu_isa="native"))
        print(json.dumps({k: v for k, v in os.environ.items() if before.get(k) != v}))
        print(json.dumps([k for k in before if k not in os.environ]))
        del os.environ["OMP_WAIT_POLICY"]
        set_environment("prompts", SimpleNamespace(image="cpu"))
        print(os.environ["OMP_WAIT_POLICY"], os.environ["DS_ACCELERATOR"])
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=ROOT, env={}, check=True, capture_output=True, text=True)
    changed, removed, others = done.stdout.splitlines()
    assert json.loads(changed) == {
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
    }
    assert json.loads(removed) == ["ONEDNN_MAX_CPU_ISA"]
    assert others == "PASSIVE cpu"


def count_faults(preparation: str) -> int:
    """Returns how many pages the system gives a process that allocates 64 MB twenty times."""
    program = f"""
        import resource
        from types import SimpleNamespace
        from stages._contract.run import set_environment
        {preparation}
        def faults():
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = bytearray([1]) * 2**26
        del block
        before = faults()
        for _ in range(20):
            block = bytearray([1]) * 2**26
            del block
        print(faults() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_freed_memory_is_used_again() -> None:
    values = 'SimpleNamespace(image="cpu", num_threads=1, cpu_isa="avx2")'
    kept = count_faults(f'set_environment("sft", {values})')
    assert kept < count_faults("") / 20
