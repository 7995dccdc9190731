"""The command line, as a user and a script of a job call it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.__main__ import main
from tests.demo import VALUES, make_demo, write_stage

ROOT = Path(__file__).parents[3]
# Of the text `x`, in place of an image.
LOCK = {
    "image": "cpu",
    "sif_sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
    "sif_bytes": 1,
    "revision": "0" * 40,
    "inputs": {},
    "apptainer": "1.4.5",
    "debian": {},
    "wheels": {"torch-2.whl": "2" * 64},
}


def call(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Returns what became of `python -m stages` in the folder."""
    command = [sys.executable, "-m", "stages", *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, env=env, text=True, capture_output=True, check=False)


def refusal(demo: Path) -> str:
    """Returns what is said on stderr of a run at the site `box` that fails and prints nothing."""
    done = call(demo, "run", "demo", R1_SITE="box")
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Returns a repository with one stage, which passes, and sites of each kind."""
    make_demo(tmp_path)
    write_stage(tmp_path, '(out / "a").write_text("1")\nreturn {"demo": {"n": params.size}}')
    shutil.copytree(ROOT / "slurm", tmp_path / "slurm")
    sites = tmp_path / "slurm/sites"
    (sites / "here.yaml").write_text("kind: local\n", encoding="utf-8")
    box = {
        "kind": "apptainer",
        "apptainer": str(tmp_path / "apptainer"),
        "images": str(tmp_path / "images"),
        "gpus": False,
        "python": "python3",
        "binds": ["/data:/d:ro"],
        "scratch": str(tmp_path / "scratch"),
        "environment": {"A": "b c"},
    }
    (sites / "box.yaml").write_text(json.dumps(box), encoding="utf-8")
    for folder in ("images", "containers"):
        (tmp_path / folder).mkdir()
    (tmp_path / "images/cpu.sif").write_text("x", encoding="utf-8")
    (tmp_path / "containers/cpu.lock.yaml").write_text(json.dumps(LOCK), encoding="utf-8")
    needs = {"array": 1, "nodes": 1, "gpus_per_node": 0, "cpus_per_task": 1, "mem": "1G"}
    recipes = {"tiny": {"demo": needs | {"time": "00:10:00"}}}
    (tmp_path / "slurm/resources.yaml").write_text(json.dumps(recipes), encoding="utf-8")
    return tmp_path


def test_example_renders_out_of_the_box() -> None:
    arguments = ("render", "evaluate", "--model", "sft", "--task", "arithmetic")
    done = call(ROOT, *arguments, R1_SITE="example")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"#SBATCH --chdir={ROOT}\n" in done.stdout
    command = f'supervise "${{python[@]}}" -m stages exec {" ".join(arguments[1:])}\n'
    assert command in done.stdout


@pytest.mark.parametrize("command", ["run", "exec", "render", "preflight", "track"])
@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("grpo --section zero", "grpo: --section zero needs --track, whose section it is: --track"),
        ("grpo --section nix", "none of distill, r1, r1-zero, results has such a section of grpo"),
        ("grpo --track r1-zero", "grpo: --track r1-zero needs --section: --section zero\n"),
        ("sft --track r1-zero", "tracks/r1-zero/params.yaml has none of sft; add one, {} if"),
        ("sft --track nix", "there is no track 'nix': tracks/nix/params.yaml is not there"),
        ("filter --model base", "filter: --model is an option of evaluate alone: leave it out\n"),
        ("grpo --track r1 --section scenarios --task x", "grpo: --task is an option of evaluate"),
        (
            "evaluate --track r1-zero --model zero --task arithmetic",
            "evaluate: --track r1-zero needs --section: --section evaluate\n",
        ),
    ],
)
def test_options_that_do_not_belong_together_are_one_line(
    command: str,
    cell: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(ROOT / "tracks", tmp_path / "tracks")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main([command, *cell.split()]) == 1
    shown, error = capsys.readouterr()
    assert shown == ""
    assert error.startswith("rederive: ")
    assert message in error
    assert error.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"params.yaml", "tracks"}


@pytest.mark.parametrize("arguments", ["track --track r1", "render controller --section zero"])
def test_options_of_a_stage_need_one(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 1
    assert capsys.readouterr().err.endswith(" says which run of a stage is meant: name a stage\n")


@pytest.mark.parametrize("graph", ["dvc.lock", *sorted(ROOT.glob("tracks/*/dvc.lock"))], ids=str)
def test_each_command_of_the_graphs_renders(
    graph: str | Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("R1_SITE", "example")
    monkeypatch.chdir(ROOT)
    text = (ROOT / graph).read_text(encoding="utf-8")
    cells = re.findall(r"(?m)^    cmd: python -m stages run (.+(?:\n      .+)*)", text)
    assert len(cells) == text.count("cmd: ") > 0
    kinds = {re.sub(r"(--\w+) \S+", r"\1", " ".join(cell.split())): cell for cell in cells}
    for cell in kinds.values():  # one of each stage with the same options
        assert main(["render", *cell.split()]) == 0
        assert f"-m stages exec {' '.join(cell.split())}" in capsys.readouterr().out


def test_array_renders_as_two_scripts(demo: Path) -> None:
    stage = demo / "stages/demo/stage.py"
    stage.write_text(
        f"{stage.read_text()}\ndef fill(params, inputs, work, index, num_parts):\n    1\n"
    )
    needs = demo / "slurm/resources.yaml"
    needs.write_text(needs.read_text().replace('"array": 1', '"array": 4'))
    done = call(demo, "render", "demo", R1_SITE="example")
    assert (done.returncode, done.stderr) == (0, "")
    array, gathers = done.stdout.split("\n#!/bin/bash\n")
    assert "#SBATCH --array=1-4\n" in array
    assert 'stages exec demo --part "$SLURM_ARRAY_TASK_ID/4"\n' in array
    assert "ARRAY" not in gathers
    assert "stages exec demo\n" in gathers


def test_controller_renders_and_needs_a_site(demo: Path) -> None:
    done = call(ROOT, "render", "controller", R1_SITE="example")
    assert "-m dvc repro\n" in done.stdout
    done = call(demo, "controller", "--force", "-j", "2", R1_SITE="example", PATH="/nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    missing = "rederive: controller: slurm/resources.yaml: tiny.controller is missing: give it the"
    assert done.stderr.startswith(missing)
    done = call(demo, "controller")
    assert "rederive: controller: the site local is of kind local" in done.stderr


def test_no_script_without_a_site_that_has_scripts() -> None:
    done = call(ROOT, "render", "grpo")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "rederive: the site local is of kind local, which has no scripts: set R1_SITE, e.g. "
        "R1_SITE=example python -m stages render grpo\n"
    )


@pytest.mark.parametrize("site", [{}, {"R1_SITE": ""}, {"R1_SITE": "local"}, {"R1_SITE": "here"}])
def test_local_sites_run_the_stage_in_this_process(demo: Path, site: dict[str, str]) -> None:
    done = call(demo, "run", "demo", **site)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (demo / "artifacts/demo/a").read_text(encoding="utf-8") == "1"


def test_exec_runs_the_stage_whatever_the_site_is(demo: Path) -> None:
    done = call(demo, "exec", "demo", R1_SITE="example")
    assert (done.returncode, done.stderr) == (0, "")
    assert (demo / "artifacts/demo/a").exists()


def test_unknown_site_is_one_line(demo: Path) -> None:
    done = call(demo, "run", "demo", R1_SITE="exmple")
    assert done.returncode == 1
    assert done.stderr.startswith("rederive: demo: R1_SITE is 'exmple', and there is no slurm/")
    assert done.stderr.count("\n") == 1


def test_mistake_in_the_parameters_is_found_before_a_job_is(demo: Path) -> None:
    (demo / "params.yaml").write_text(VALUES.replace("3", "big"), encoding="utf-8")
    done = call(demo, "run", "demo", R1_SITE="example", PATH="/nowhere")
    assert done.returncode == 1
    assert done.stderr == "rederive: demo: demo.size: expected int, got str 'big'\n"


def test_machine_without_slurm_is_one_line(demo: Path) -> None:
    done = call(demo, "run", "demo", R1_SITE="example", PATH="/nowhere")
    assert done.returncode == 1
    assert done.stderr == (
        "rederive: demo: there is no sbatch here: R1_SITE names a site of kind slurm, so run where "
        "Slurm's commands are\n"
    )


def test_job_is_not_submitted_again_when_slurms_answer_got_lost(demo: Path) -> None:
    """What a busy Slurm says; it may have taken the job all the same, and then knows its key."""
    said = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    programs = {
        "sbatch": f'echo "$@" >>{demo}/sbatch; echo "{said}" >&2; exit 1',
        "squeue": f"sed -E 's/.*--comment=([0-9a-f]+) .*/5 \\1/' {demo}/sbatch",
        "scontrol": f"echo 7 >{demo}/work/jobs/demo/5.0.status; "
        "echo JobId=5 JobState=FAILED Reason=NonZeroExitCode ExitCode=7:0 Restarts=0 NodeList=n1",
    }
    (demo / "bin").mkdir()
    for name, body in programs.items():
        path = demo / "bin" / name
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)
    done = call(demo, "run", "demo", R1_SITE="example", PATH=f"{demo}/bin:/usr/bin:/bin")
    assert done.returncode == 7
    assert done.stderr.splitlines()[0] == ("rederive: demo: submitted job 5, log work/jobs/demo/")
    assert len((demo / "sbatch").read_text(encoding="utf-8").splitlines()) == 1
    (demo / "bin/squeue").write_text("#!/bin/sh\n", encoding="utf-8")
    done = call(demo, "run", "demo", R1_SITE="example", PATH=f"{demo}/bin:/usr/bin:/bin")
    assert (done.returncode, done.stderr) == (1, f"rederive: demo: sbatch says: {said}\n")


def test_several_nodes_are_refused_where_stages_compute_on_one(demo: Path) -> None:
    path = demo / "slurm/resources.yaml"
    text = path.read_text(encoding="utf-8").replace('"nodes": 1', '"nodes": 2')
    path.write_text(text, encoding="utf-8")
    done = call(demo, "run", "demo", R1_SITE="example")
    assert done.returncode == 1
    assert done.stderr == (
        "rederive: demo: slurm/resources.yaml: tiny.demo: nodes is 2, and demo computes on one: "
        "set 1\n"
    )


def test_image_gets_the_command_and_the_sites_environment(demo: Path) -> None:
    show = '#!/bin/sh\nprintf "%s\\n" "$APPTAINERENV_A" "$@"\nexit 9\n'
    (demo / "apptainer").write_text(show, encoding="utf-8")
    (demo / "apptainer").chmod(0o755)
    done = call(demo, "run", "demo", R1_SITE="box")
    assert (done.returncode, done.stderr) == (9, "")
    assert done.stdout.splitlines() == [
        "b c",
        *("exec", "--containall", "--workdir", str(demo / "scratch"), "--pwd", str(demo)),
        *("--bind", str(demo), "--bind", "/data:/d:ro", str(demo / "images/cpu.sif")),
        *("python3", "-m", "stages", "exec", "demo"),
    ]


def test_image_with_another_digest_is_refused(demo: Path) -> None:
    (demo / "images/cpu.sif").write_text("y", encoding="utf-8")
    done = call(demo, "run", "demo", R1_SITE="box")
    assert done.returncode == 1
    found = f"the image {demo}/images/cpu.sif has the sha256 a1fce4363854ff888cff4b8e7875d600"
    assert found in done.stderr
    assert "containers/cpu.lock.yaml says 2d711642b726b04401627ca9fbac32f5" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "images/cpu.sif",
            None,
            "there is no image {demo}/images/cpu.sif: copy it there, or change",
        ),
        (
            "containers/cpu.lock.yaml",
            None,
            "build it with `python3 -m nox -s images -- cpu`, or set",
        ),
        ("containers/cpu.lock.yaml", LOCK | {"image": "gpu"}, "image must be 'cpu', not 'gpu'"),
        ("containers/cpu.lock.yaml", LOCK | {"sif_sha256": "0"}, "must be 64 hex digits, not '0'"),
        ("containers/cpu.lock.yaml", LOCK | {"sif": "0"}, "image: unknown key 'sif'"),
    ],
)
def test_image_or_lock_that_is_not_right_is_one_line(
    demo: Path, name: str, content: dict[str, object] | None, message: str
) -> None:
    (demo / name).unlink()
    if content:
        (demo / name).write_text(json.dumps(content), encoding="utf-8")
    done = call(demo, "run", "demo", R1_SITE="box")
    assert done.returncode == 1
    assert message.format(demo=demo) in done.stderr
    assert done.stderr.count("\n") == 1


def test_image_of_the_stage_is_in_the_script(demo: Path) -> None:
    site = (demo / "slurm/sites/example.yaml").read_text(encoding="utf-8")
    changed = site.replace("images: null", "images: /shared").replace("python: null", "python: py")
    (demo / "slurm/sites/example.yaml").write_text(changed, encoding="utf-8")
    done = call(demo, "render", "demo", R1_SITE="example")
    assert (done.returncode, done.stderr) == (0, "")
    assert "image=/shared/cpu.sif\n" in done.stdout
    assert f'{LOCK["sif_sha256"]} "$1" | sha256sum --check' in done.stdout


def test_machine_without_apptainer_is_one_line(demo: Path) -> None:
    done = call(demo, "run", "demo", R1_SITE="box")
    assert done.returncode == 1
    assert f"there is no {demo}/apptainer here: install Apptainer" in done.stderr


def test_apptainer_that_cannot_be_run_is_one_line(demo: Path) -> None:
    (demo / "apptainer").write_text("#!/bin/sh\n", encoding="utf-8")
    (demo / "apptainer").chmod(0o644)
    assert refusal(demo) == (
        f"rederive: demo: {demo}/apptainer cannot be run (Permission denied): change apptainer in "
        "the site's file to the command that runs images here\n"
    )


def test_scratch_that_cannot_be_made_is_one_line(demo: Path) -> None:
    (demo / "scratch").write_text("a file", encoding="utf-8")
    assert refusal(demo) == (
        f"rederive: demo: there can be no folder {demo}/scratch (File exists): change scratch in "
        "the site's file to one that you may write to\n"
    )


def test_image_that_cannot_be_read_is_one_line(demo: Path) -> None:
    (demo / "images/cpu.sif").unlink()
    (demo / "images/cpu.sif").symlink_to("/proc/self/mem")  # root, too, cannot read its beginning
    assert refusal(demo) == (
        f"rederive: demo: the image {demo}/images/cpu.sif cannot be read (Input/output error): "
        "mend that, or change images in the site's file\n"
    )


def test_preflight_says_on_which_check_it_ends(demo: Path) -> None:
    assert call(demo, "preflight", "demo").returncode == 0
    done = call(demo, "preflight", "demo", "--scratch-bytes", str(2**60))
    assert done.returncode == 1
    assert f"min_scratch_bytes is {2**60}: name another scratch" in done.stderr


def test_launcher_imports_neither_torch_nor_dvc(demo: Path) -> None:
    code = (
        "import sys; from stages.__main__ import main; status = main(['run', 'demo'])\n"
        "assert 'stages._launch.launch' in sys.modules\n"
        "assert not {'torch', 'dvc', 'numpy'} & set(sys.modules); sys.exit(status)"
    )
    env = {**os.environ, "R1_SITE": "here", "PYTHONPATH": str(demo)}
    done = subprocess.run([sys.executable, "-c", code], cwd=demo, env=env, check=False)
    assert done.returncode == 0
