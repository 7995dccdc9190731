"""Checks of GPUs; `nvidia-smi` is a script that prints what its documentation says, or fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages._launch.gpus import Gpu, check_gpus, parse_gpus, select

pytestmark = pytest.mark.usefixtures("no_gpus")

H100 = "NVIDIA H100 80GB HBM3"


def write_smi(folder: Path, body: str) -> None:
    path = folder / "programs/nvidia-smi"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


def line(index: int, name: str = H100, driver: str = "580.65.06", errors: str = "0") -> str:
    return f"{index}, GPU-{index}aaa, {name}, {driver}, {errors}"


def prints(*gpus: str, processes: str = "") -> str:
    """Returns a script that lists these."""
    shown = "\n".join(gpus)
    return (
        f"case $1 in --query-gpu=*) cat <<'END'\n{shown}\nEND\n;; "
        f"--query-compute-apps=*) cat <<'END'\n{processes}\nEND\n;; esac"
    ).replace("cat ", "/bin/cat ")


def test_gpus_that_slurm_has_given_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    check_gpus(3, None)
    with pytest.raises(ValueError, match="gpus_per_node is 4, and CUDA_VISIBLE_DEVICES is '0,1,2'"):
        check_gpus(4, None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ValueError, match="gpus_per_node is 1, and CUDA_VISIBLE_DEVICES is ''"):
        check_gpus(1, None)


def test_gpus_need_either_sign_of_them() -> None:
    check_gpus(0, "h100")
    with pytest.raises(ValueError, match="has neither CUDA_VISIBLE_DEVICES nor nvidia-smi"):
        check_gpus(1, None)


def test_driver_that_has_lost_a_gpu_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    write_smi(tmp_path, prints(line(0)))
    check_gpus(1, "h100")
    with pytest.raises(ValueError, match="nvidia-smi finds 1 on this node: exclude the node"):
        check_gpus(2, "h100")


def test_driver_that_does_not_answer_is_quoted(tmp_path: Path) -> None:
    write_smi(tmp_path, 'echo "NVIDIA-SMI has failed: no driver" >&2; exit 9')
    with pytest.raises(ValueError, match=r"fails on this node \(NVIDIA-SMI has failed: no driver"):
        check_gpus(1, None)


def test_lines_are_read_with_and_without_ecc() -> None:
    first, second = parse_gpus(line(0, errors="2") + "\n" + line(1, errors="[N/A]") + "\n")
    assert first == Gpu(
        index="0", uuid="GPU-0aaa", name=H100, driver="580.65.06", num_uncorrected=2
    )
    assert second.num_uncorrected is None
    with pytest.raises(ValueError, match="nvidia-smi says 'No devices were found', where index"):
        parse_gpus("No devices were found\n")


def test_gpus_are_chosen_as_cuda_does_by_index_and_by_uuid() -> None:
    gpus = parse_gpus("\n".join(line(index) for index in range(4)))
    assert [gpu.index for gpu in select(gpus, "1, 3")] == ["1", "3"]
    assert [gpu.index for gpu in select(gpus, "GPU-2aaa")] == ["2"]
    assert select(gpus, None) == gpus


@pytest.mark.parametrize(
    ("gpu_type", "name"),
    [
        ("h100", H100),
        ("nvidia_h100_80gb_hbm3", H100),
        ("a100-sxm4-80gb", "NVIDIA A100-SXM4-80GB"),
        ("RTX3090", "NVIDIA GeForce RTX 3090"),
        ("big", H100),
        (None, H100),
    ],
)
def test_type_that_slurm_has_is_found_in_the_drivers_name(
    tmp_path: Path, gpu_type: str | None, name: str
) -> None:
    write_smi(tmp_path, prints(line(0, name)))
    check_gpus(1, gpu_type)


@pytest.mark.parametrize(
    ("gpus", "processes", "message"),
    [
        ([line(0, "NVIDIA A100-SXM4-80GB")], "", "gpu_type in the site's file is h100, and this"),
        ([line(0), line(1, "NVIDIA L4")], "", f"of several kinds: {H100}, NVIDIA L4"),
        ([line(0), line(1, driver="1.0")], "", "names several drivers, 1.0, 580.65.06"),
        ([line(0), line(1, errors="3")], "", "GPU 1 .GPU-1aaa. has had 3 uncorrected ECC errors"),
        (
            [line(0)],
            "GPU-0aaa, 4711, python",
            "GPU 0 .GPU-0aaa. is used by another process .4711, ",
        ),
    ],
)
def test_gpu_that_is_not_as_it_should_be_is_named(
    tmp_path: Path, gpus: list[str], processes: str, message: str
) -> None:
    write_smi(tmp_path, prints(*gpus, processes=processes))
    with pytest.raises(ValueError, match=message):
        check_gpus(1, "h100")


def test_gpus_of_others_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Slurm does not hide them, a node's other GPUs are other jobs'."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    write_smi(tmp_path, prints(line(0, errors="9"), line(1), processes="GPU-0aaa, 1, python"))
    check_gpus(1, "h100")
