"""What a recipe's stages need: memory per GPU, tokens per second, hours, from its parameters."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from stages._plan.hardware import ASSUMED, GB, H100
from stages._plan.memory import DTYPE_BYTES, kv_bytes_per_token, training_memory
from stages._plan.models import find_model
from stages._plan.simulate import Lengths, simulate_synchronous
from stages._plan.speed import (
    forward_tokens_per_s,
    make_replica,
    training_tokens_per_s,
)
from stages._plan.workload import FORWARD_PASSES, HOUR, SIGMA, TRACE_TOKENS
from stages.prompts.params import count_problems

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stages._plan.models import Model
    from stages._plan.simulate import Outcome
    from stages.prompts.params import PromptsParams

# Rows of published traces, where max_rows is null: the data set's card.
ROWS_OF = {"open-r1/Mixture-of-Thoughts": 350_000}
FILL = 0.4  # mean length of a response by its limit, where nothing better is known: an assumption


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A stage on its GPUs; memory is per GPU."""

    stage: str
    gpus: int
    memory: dict[str, float]  # bytes, by what they hold
    tokens_per_s: float
    hours: float
    note: str

    @property
    def memory_bytes(self) -> float:
        """Returns the bytes per GPU."""
        return sum(self.memory.values())


def model_of(sections: Mapping[str, Any]) -> Model:
    """Returns the shape of the base model. Raises ValueError if it is not known."""
    source = sections["fetch"].source
    name = getattr(source, "repo", None) or getattr(source, "package", None) or source.path
    return find_model(name)


def estimate_recipe(sections: Mapping[str, Any]) -> list[Estimate]:
    """Returns the estimates of generate, sft and grpo, by a recipe's parameters.

    Raises:
        ValueError: the model's shape or the number of traces is not known.
    """
    model = model_of(sections)
    return [
        estimate_generate(model, sections),
        estimate_sft(model, sections),
        estimate_grpo(model, sections),
    ]


def mean_trace_tokens(limit: int) -> float:
    """Returns the mean length that is assumed of traces of at most `limit` tokens."""
    return min(float(TRACE_TOKENS), FILL * limit)


def estimate_generate(model: Model, sections: Mapping[str, Any]) -> Estimate:
    """Returns the estimate of one engine: the samples of all problems, its batches always full."""
    params = sections["generate"]
    engine = params.engine
    tokens = mean_trace_tokens(params.max_tokens)
    replica = make_replica(
        model,
        tensor_parallel=engine.tensor_parallel_size,
        context_tokens=tokens / 2,
        max_num_seqs=engine.max_num_seqs,
        memory_use=engine.gpu_memory_utilization or 0.9,
        weight_size=DTYPE_BYTES[engine.dtype],
    )
    speed = replica.tokens_per_s(replica.max_sequences, tokens / 2)
    problems = _num_train(sections["prompts"])
    return Estimate(
        stage="generate",
        gpus=engine.tensor_parallel_size,
        memory={"vLLM": H100.memory_bytes * (engine.gpu_memory_utilization or 0.9)},
        tokens_per_s=speed,
        hours=problems * params.num_samples * tokens / speed / HOUR,
        note=(
            f"one engine, {problems:,} x {params.num_samples} samples of {tokens:,.0f} tokens, "
            f"{replica.max_sequences:.0f} at once; {kv_bytes_per_token(model) / 1e3:.0f} kB of "
            f"cache per token; an array of N tasks takes an Nth of the time"
        ),
    )


def num_traces(sections: Mapping[str, Any]) -> int:
    """Returns how many rows `sft` reads at most: published traces, or what `filter` may keep.

    Raises:
        ValueError: all published traces are read, and how many there are is not known.
    """
    traces = sections["prompts"].traces
    if traces is not None and sections["sft"].dataset.endswith("traces.jsonl"):
        name = traces.repo if traces.kind == "hub" else traces.path
        rows: int | None = ROWS_OF.get(name) if traces.max_rows is None else traces.max_rows
        if rows is None:
            raise ValueError(
                f"prompts.traces.max_rows is null, and how many rows {name} has is not known here: "
                f"set it to their number"
            )
        return rows
    per_problem: int = min(sections["filter"].max_per_prompt, sections["generate"].num_samples)
    return per_problem * _num_train(sections["prompts"])


def _num_train(params: PromptsParams) -> int:
    """Returns the number of training problems, of a mixture's too."""
    return sum(count_problems(params, name).num_train for name in params.sources)


def estimate_sft(model: Model, sections: Mapping[str, Any]) -> Estimate:
    """Returns the estimate of `sft`, whose memory is that of a batch of the longest traces."""
    params = sections["sft"]
    memory = training_memory(
        model,
        distributed=params.distributed,
        num_processes=params.num_processes,
        dtype=params.dtype,
        tokens_per_pass=params.per_device_train_batch_size * params.max_length,
        gradient_checkpointing=params.gradient_checkpointing,
        is_fused=params.use_liger_kernel,
        is_chunked=params.use_liger_kernel or params.loss_type == "chunked_nll",
    )
    tokens, rows = mean_trace_tokens(params.max_length), num_traces(sections)
    speed = training_tokens_per_s(model, tokens) * params.num_processes
    return Estimate(
        stage="sft",
        gpus=params.num_processes,
        memory=asdict(memory),
        tokens_per_s=speed,
        hours=rows * params.num_train_epochs * tokens / speed / HOUR,
        note=(
            f"{rows:,} traces of {tokens:,.0f} tokens x {params.num_train_epochs:g} epochs; no "
            f"padding, which two long traces of unequal length in a pass would add"
        ),
    )


def estimate_grpo(model: Model, sections: Mapping[str, Any]) -> Estimate:
    """Returns the estimate of `grpo`: writing, then training, as TRL does, with stragglers.

    A reference model (beta > 0) is another copy of the weights; colocated, vLLM takes its share. To
    make the reference follow the policy, TRL gathers both on each GPU if ZeRO-3 has sharded them,
    when no activations are there: 4 bytes per parameter, of which what exceeds these is counted.
    """
    params = sections["grpo"]
    memory = training_memory(
        model,
        distributed=params.distributed,
        num_processes=params.num_processes,
        dtype=params.dtype,
        tokens_per_pass=params.per_device_train_batch_size * params.max_completion_length,
        gradient_checkpointing=params.gradient_checkpointing,
        is_fused=params.use_liger_kernel,
        is_chunked=params.use_liger_kernel,
    )
    parts = asdict(memory)
    if params.beta > 0:
        shards = params.num_processes if params.distributed == "zero3" else 1
        parts["reference"] = DTYPE_BYTES[params.dtype] * model.parameters / shards
    if params.sync_ref_model and params.distributed == "zero3":
        free = parts["activations"] + parts["logits"]
        parts["gathering both"] = max(0.0, 4 * model.parameters - free)
    if params.use_vllm and params.vllm_mode == "colocate":
        parts["vLLM"] = H100.memory_bytes * params.vllm_gpu_memory_utilization
    tokens = mean_trace_tokens(params.max_completion_length)
    outcome = _simulate(model, params, tokens)
    batch = params.generation_batch_size
    updates = max(1, params.passes_per_generation // params.gradient_accumulation_steps)
    size = params.vllm_tensor_parallel_size
    where = "the same GPUs" if params.vllm_mode == "colocate" else f"{size} more, one server's,"
    return Estimate(
        stage="grpo",
        gpus=params.num_processes,
        memory=parts,
        tokens_per_s=batch / updates * tokens / outcome.step_s,
        hours=params.max_steps * outcome.step_s / HOUR,
        note=(
            f"{params.max_steps:,} steps of {batch // updates} completions of {tokens:,.0f} tokens "
            f"on average, {outcome.step_s:,.0f} s each; {where} write; waiting for the longest "
            f"included"
        ),
    )


def _simulate(model: Model, params: Any, tokens: float) -> Outcome:
    is_colocated = params.vllm_mode == "colocate"
    size = params.vllm_tensor_parallel_size
    num_replicas = max(1, params.num_processes // size) if is_colocated else 1  # TRL has one server
    replica = make_replica(
        model,
        tensor_parallel=size,
        context_tokens=tokens / 2,
        memory_use=params.vllm_gpu_memory_utilization,
        weight_size=DTYPE_BYTES[params.dtype],
    )
    per_token = 1 / training_tokens_per_s(model, tokens) + FORWARD_PASSES / forward_tokens_per_s(
        model, tokens
    )
    batch = params.generation_batch_size
    return simulate_synchronous(
        replica,
        num_replicas=num_replicas,
        lengths=Lengths(mean=tokens, sigma=SIGMA, limit=params.max_completion_length),
        rollout_size=batch,
        updates_per_rollout=max(
            1, params.passes_per_generation // params.gradient_accumulation_steps
        ),
        training_s=batch * tokens * per_token / params.num_processes,
        is_colocated=is_colocated,
        seed=0,
    )


def render_estimates(name: str, sections: Mapping[str, Any]) -> str:
    """Returns the estimates of a recipe as text, with the assumptions beneath.

    Raises:
        ValueError: the model's shape or the number of traces is not known.
    """
    model = model_of(sections)
    lines = [
        f"{name}: {model.name}, {model.parameters / 1e9:.2f} billion parameters, on {H100.name}s.",
        "A model's estimates: nothing was measured, and docs/capacity.md says how far to trust it.",
    ]
    if sections["sft"].image == "cpu":
        lines.append("The recipe is for CPUs: this is what one GPU would make of its parameters.")
    for entry in estimate_recipe(sections):
        fits = "fits" if entry.memory_bytes <= H100.memory_bytes else "DOES NOT FIT"
        sizes = ", ".join(f"{key} {size / GB:.1f}" for key, size in entry.memory.items())
        size = f"{entry.memory_bytes / GB:.1f} of {H100.memory_bytes / GB:.0f} GB each ({fits})"
        speed = f"{entry.tokens_per_s:,.0f} tokens/s, {entry.hours:,.1f} hours"
        lines += ["", f"{entry.stage}: GPUs: {entry.gpus}, {size}, {speed}"]
        lines += [f"  {entry.note}", f"  GB: {sizes}"]
    peak, bandwidth = H100.peak_flops / 1e12, H100.bandwidth / 1e12
    mfu = f"{ASSUMED.mfu:.0%} of {peak:.0f} TFLOP/s while training"
    read = f"{ASSUMED.bandwidth_use:.0%} of {bandwidth:.2f} TB/s while writing"
    mean = f"{TRACE_TOKENS:,} tokens on average, but at most {FILL} of the limit"
    lines += ["", f"Assumed: {mfu}, {read};", f"lengths log-normal (sigma {SIGMA}), {mean}."]
    return "\n".join(lines) + "\n"
