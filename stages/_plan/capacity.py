"""docs/capacity.md: what R1's data and reinforcement learning would take on 768 H100s.

The text is in capacity.md.in; here are its tables and numbers.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

from stages._plan.hardware import ASSUMED, GPUS_PER_NODE, H100
from stages._plan.models import DEEPSEEK_V3, QWEN_7B, QWEN_32B
from stages._plan.published import MOE, check_all
from stages._plan.workload import (
    BATCH,
    GENERAL_SAMPLES,
    GENERAL_TOKENS,
    LENGTH_CURVE,
    PASS_RATE,
    REASONING_SAMPLES,
    ROLLOUT,
    SFT_EPOCHS,
    SIGMA,
    STAGE_2_TOKENS,
    STAGE_2_UPDATES,
    TRACE_TOKENS,
    ZERO_UPDATES,
    Setup,
    sampling_hours,
    sft_hours,
    stage_2_hours,
    update_outcome,
    zero_hours,
)

TEMPLATE = Path(__file__).with_name("capacity.md.in")
GPUS = 768
SHARES = (0.125, 0.25, 0.375, 0.5, 0.625)  # of GPUs that train
LIMIT = 32_768  # tokens of a response

CASES = {
    "7B": Setup(model=QWEN_7B, gpus=GPUS, tensor_parallel=1),
    "32B": Setup(model=QWEN_32B, gpus=GPUS, tensor_parallel=2),
    "DeepSeek-V3 671B": Setup(
        model=DEEPSEEK_V3,
        gpus=GPUS,
        tensor_parallel=64,
        is_expert_parallel=True,
        efficiency=MOE,
    ),
}


def render_capacity() -> str:
    """Returns the page, in Markdown."""
    pairs = [f"{name} {kind}" for name in CASES for kind in ("in turn", "async")]
    return TEMPLATE.read_text(encoding="utf-8").format(
        **_name_assumptions(),
        names=" | ".join(CASES),
        bars="---:|" * len(CASES),
        pairs=" | ".join(pairs),
        pair_bars="---:|" * len(pairs),
        checks="\n".join(_list_checks()),
        hours="\n".join(_list_hours()),
        partitions="\n".join(_list_partitions()),
        sensitivity="\n".join(_list_sensitivity()),
    )


def best_partition(setup: Setup) -> Setup:
    """Returns the setup with the share of training GPUs whose updates are the fastest."""
    return min(
        (replace(setup, training_share=share) for share in SHARES),
        key=lambda choice: update_outcome(choice, TRACE_TOKENS, LIMIT).step_s,
    )


def _name_assumptions() -> dict[str, str]:
    points = (f"{tokens:,.0f} at {update:,}" for update, tokens in LENGTH_CURVE)
    log_mean = math.log(TRACE_TOKENS) - SIGMA**2 / 2
    below = NormalDist(log_mean, SIGMA).cdf(math.log(8_000))
    return {
        "gpu": H100.name,
        "peak": f"{H100.peak_flops / 1e12:.0f}",
        "memory": f"{H100.memory_bytes / 1e9:.0f}",
        "bandwidth": f"{H100.bandwidth / 1e12:.2f}",
        "nodes": f"{GPUS // GPUS_PER_NODE}",
        "per_node": f"{GPUS_PER_NODE}",
        "mfu": f"{ASSUMED.mfu:.0%}",
        "moe_mfu": f"{MOE.mfu:.0%}",
        "forward_mfu": f"{ASSUMED.forward_mfu:.0%}",
        "moe_forward_mfu": f"{MOE.forward_mfu:.0%}",
        "bandwidth_use": f"{ASSUMED.bandwidth_use:.0%}",
        "overhead": f"{ASSUMED.step_overhead_s * 1e3:.0f}",
        "reasoning": f"{REASONING_SAMPLES:,}",
        "trace": f"{TRACE_TOKENS:,}",
        "pass_rate": f"{PASS_RATE:.0%}",
        "general": f"{GENERAL_SAMPLES:,}",
        "general_tokens": f"{GENERAL_TOKENS:,}",
        "epochs": f"{SFT_EPOCHS}",
        "sigma": f"{SIGMA}",
        "below": f"{100 * below:.0f}",
        "updates": f"{ZERO_UPDATES:,}",
        "batch": f"{BATCH}",
        "rollout": f"{ROLLOUT:,}",
        "curve": ", ".join(points),
        "last_updates": f"{STAGE_2_UPDATES:,}",
        "last_tokens": f"{STAGE_2_TOKENS:,.0f}",
    }


def _list_checks() -> list[str]:
    rows = []
    for check in check_all():
        digits = 2 if check.unit == "speed-up" else 0
        note = f"; {check.note}" if check.note else ""
        rows.append(
            f"| {check.what} ({check.unit}) | {check.published:,.{digits}f} | "
            f"{check.predicted:,.{digits}f} | {check.ratio:.2f} | {check.source}{note} |"
        )
    return rows


def _list_hours() -> list[str]:
    columns = {
        "sampling the 800k (full batches; see the ratios)": sampling_hours,
        "fine-tuning on the 800k": sft_hours,
        "R1-Zero, colocated: all GPUs write, then train": zero_hours,
        "R1's last stage, colocated": stage_2_hours,
    }
    rows = [
        _row(label, [f"{hours(setup):,.1f}" for setup in CASES.values()])
        for label, hours in columns.items()
    ]
    for is_asynchronous, label in ((False, "two pools in turn"), (True, "asynchronous")):
        setups = [replace(setup, is_asynchronous=is_asynchronous) for setup in CASES.values()]
        cells = [f"{zero_hours(best_partition(setup)):,.1f}" for setup in setups]
        rows.append(_row(f"R1-Zero, {label}, best partition", cells))
    return rows


def _list_partitions() -> list[str]:
    rows = []
    for share in (None, *SHARES):
        cells = []
        for setup in CASES.values():
            for is_asynchronous in (False, True):
                if share is None and is_asynchronous:
                    cells.append("–")
                    continue
                choice = replace(setup, training_share=share, is_asynchronous=is_asynchronous)
                outcome = update_outcome(choice, TRACE_TOKENS, LIMIT)
                shares = f"{outcome.rollout_use:.0%} / {outcome.training_use:.0%}"
                cells.append(f"{outcome.step_s:.1f} ({shares})")
        rows.append(_row("all, colocated" if share is None else f"{round(GPUS * share)}", cells))
    return rows


def _list_sensitivity() -> list[str]:
    changes: dict[str, tuple[float, dict[str, float]]] = {
        "half the length": (0.5, {}),
        "20 % longer": (1.2, {}),
        "MFU less by a third": (1.0, {"mfu": 2 / 3, "forward_mfu": 2 / 3}),
        "bandwidth 50 % instead of 70 %": (1.0, {"bandwidth_use": 5 / 7}),
        "overhead per step doubled": (1.0, {"step_overhead_s": 2.0}),
    }
    base = {name: zero_hours(setup) for name, setup in CASES.items()}
    rows = []
    for label, (length, factors) in changes.items():
        cells = []
        for name, setup in CASES.items():
            values = {key: getattr(setup.efficiency, key) * by for key, by in factors.items()}
            changed = replace(setup, efficiency=replace(setup.efficiency, **values))
            cells.append(f"x {zero_hours(changed, length) / base[name]:.2f}")
        rows.append(_row(label, cells))
    halves = {name: zero_hours(replace(setup, gpus=GPUS // 2)) for name, setup in CASES.items()}
    rows.append(_row("half the GPUs", [f"x {halves[name] / base[name]:.2f}" for name in CASES]))
    return rows


def _row(label: str, cells: list[str]) -> str:
    return f"| {label} | " + " | ".join(cells) + " |"
