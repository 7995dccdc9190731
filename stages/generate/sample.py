"""Sampling that depends on the problem and the seed alone.

Each sample is a request of its own with a seed derived from (seed, problem id, sample index). So a
trace depends neither on the order of the problems, nor on the shard that it falls into, nor on
where an interrupted run went on. In float32 on a CPU this was observed to hold bit for bit; in
bfloat16 it does not, since sums then depend on the batch (ADR 0003).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm import SamplingParams

from stages._contract.seeding import derive
from stages.generate.engine import is_cpu_build

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase
    from vllm import LLM

    from stages.generate.params import GenerateParams

Row = dict[str, Any]


def make_conversation(row: Row, examples: Sequence[Row]) -> list[dict[str, str]]:
    """Returns the messages for a problem: its own, with the worked examples as earlier turns.

    A system message stays in front, so that the examples show how it is to be obeyed.
    """
    shown = []
    for example in examples:
        shown += [*example["prompt"], {"role": "assistant", "content": example["response"]}]
    system = [message for message in row["prompt"] if message["role"] == "system"]
    asked = [message for message in row["prompt"] if message["role"] != "system"]
    return [*system, *shown, *asked]


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    examples: Sequence[Row],
    params: GenerateParams,
) -> dict[str, list[int]]:
    """Returns the prompt's token ids by problem id.

    Raises:
        ValueError: a prompt and its completion would not fit into the model's context.
    """
    room = params.engine.max_model_len - params.max_tokens
    prompts: dict[str, list[int]] = {}
    for row in rows:
        ids = tokenizer.apply_chat_template(
            make_conversation(row, examples), add_generation_prompt=True, return_dict=False
        )
        if len(ids) > room:
            raise ValueError(
                f"the prompt of {row['id']} has {len(ids)} tokens, but generate.engine."
                f"max_model_len less generate.max_tokens leaves {room}: raise max_model_len, or "
                f"lower num_examples or max_tokens"
            )
        prompts[row["id"]] = ids
    return prompts


def sampling_params(params: GenerateParams, name: str, index: int) -> SamplingParams:
    """Returns the options of the request for a problem's sample of that index."""
    return SamplingParams(
        temperature=params.temperature,
        top_p=params.top_p,
        max_tokens=params.max_tokens,
        seed=derive(params.seed, "generate", name, index),
    )


def draw_noise_once(llm: LLM) -> None:
    """Has a CPU build of vLLM draw the noise of seeded requests once; the samples stay the same.

    Its `forward_cpu` draws it for the whole vocabulary and batch, and then again for each request
    with a seed, which all of ours have (vllm-project/vllm#40878); `forward_native` leaves the first
    draw out.
    """
    if is_cpu_build():
        llm.collective_rpc(_choose_native)


def _choose_native(worker: Any) -> None:
    """Runs in the process that computes; `worker` is vLLM's."""
    sampler = worker.model_runner.sampler.topk_topp_sampler
    sampler.forward = sampler.forward_native


def sample(llm: LLM, prompts: dict[str, list[int]], params: GenerateParams) -> list[Row]:
    """Returns `num_samples` traces for each prompt, ordered by (id, sample).

    A row has id, sample (0-based), response, finish_reason ("stop" or "length") and num_tokens
    (of the response, its end token included).
    """
    keys = [(name, index) for name in sorted(prompts) for index in range(params.num_samples)]
    outputs = llm.generate(
        [{"prompt_token_ids": prompts[name]} for name, _ in keys],
        [sampling_params(params, name, index) for name, index in keys],
        use_tqdm=False,
    )
    return [
        {
            "id": name,
            "sample": index,
            "response": output.outputs[0].text,
            "finish_reason": output.outputs[0].finish_reason,
            "num_tokens": len(output.outputs[0].token_ids),
        }
        for (name, index), output in zip(keys, outputs, strict=True)
    ]
