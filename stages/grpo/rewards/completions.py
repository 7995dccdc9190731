r"""The text of a completion, with the think tag that its chat template wrote for it.

Some chat templates end the prompt with an open think tag: DeepSeek-R1-Distill's with
"<｜Assistant｜><think>\n", QwQ's and Qwen3.5's with "<|im_start|>assistant\n<think>\n". The
completion then begins inside the think block, and Open-R1, which looks at the completion alone,
finds every one of them out of format. Here the tag is put back, if and only if the prompt ends
with it: a completion is never searched for a sign that it was there, or leaving it out would be
rewarded like writing it. A completion that writes the tag again has it twice, as the model saw it.

TRL 1.14 hands conversational prompts to a reward as messages, in which the tag cannot be seen. Who
knows the tokenizer asks `read_prefix` once, and gives the rewards the prompts of `show_prefix`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Messages = Sequence[Mapping[str, Any]]
Completions = Sequence[str | Messages]
Prompts = Sequence[str | Messages]
Reward = Callable[..., Sequence[float | None]]

_OPEN = "<think>"


def read_texts(completions: Completions, prompts: Prompts | None = None) -> list[str]:
    """Returns the text of each completion, behind the open think tag that ends its prompt, if any.

    Args:
        completions: strings, or conversations of one message each, as TRL makes them.
        prompts: one per completion: rendered strings, or conversations, whose last message is a
            prefix of the completion if it is the assistant's. None: no tag is put back.

    Raises:
        ValueError: a completion is not one message of text, or the numbers differ.
    """
    texts = [_read_text(completion) for completion in completions]
    if prompts is None:
        return texts
    return [_find_prefix(prompt) + text for prompt, text in zip(prompts, texts, strict=True)]


def read_prefix(tokenizer: Any, **chat_template_kwargs: Any) -> str:
    """Returns the open think tag, with its white space, that the template ends prompts with, or "".

    Without a template there are no conversations to hide a tag in, and it is "".

    Args:
        tokenizer: transformers'; its `apply_chat_template` is called as TRL calls it.
        chat_template_kwargs: `GRPOConfig.chat_template_kwargs`; Qwen's `enable_thinking` counts.
    """
    if tokenizer.chat_template is None:
        return ""
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1 + 1"}],
        add_generation_prompt=True,
        tokenize=False,
        **chat_template_kwargs,
    )
    return _find_prefix(rendered)


def show_prefix(prompts: Prompts, prefix: str) -> list[str | Messages]:
    """Returns the prompts with the prefix as a last message of the assistant's.

    Strings are rendered already: what the template wrote is in them, and they stay as they are. So
    does everything if the prefix is "".
    """
    if not prefix:
        return list(prompts)
    message = {"role": "assistant", "content": prefix}
    return [p if isinstance(p, str) else [*p, message] for p in prompts]


def _read_text(completion: str | Messages) -> str:
    if isinstance(completion, str):
        return completion
    if len(completion) != 1 or not isinstance(completion[0].get("content"), str):
        raise ValueError(
            f"a completion must be one message whose content is text, not {completion!r:.200}: "
            f"rewards of tool calls and of images are not supported"
        )
    if completion[0].get("reasoning_content"):
        raise ValueError(
            "a completion has its think block in 'reasoning_content', where no reward sees it: set "
            "the tokenizer's response_schema and response_template to None"
        )
    text: str = completion[0]["content"]
    return text


def _find_prefix(prompt: str | Messages) -> str:
    if isinstance(prompt, str):
        end = len(prompt.rstrip())
        return prompt[end - len(_OPEN) :] if prompt.endswith(_OPEN, 0, end) else ""
    if not prompt or prompt[-1].get("role") != "assistant":
        return ""
    content = prompt[-1].get("content")
    return _find_prefix(content) if isinstance(content, str) else ""
