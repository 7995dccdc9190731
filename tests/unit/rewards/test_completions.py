"""The text of a completion, and the think tag that real chat templates write for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trl
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from stages.grpo.rewards.completions import Prompts, read_prefix, read_texts, show_prefix
from stages.grpo.rewards.text import format_reward

BODY = "1 + 1 = 2\n</think>\n<answer>\n2\n</answer>"
USER = [{"role": "user", "content": "Think in <think> tags: 1 + 1"}]
TEMPLATES = Path(trl.__file__).parent / "chat_templates"
DEEPSEEK = "deepseek_r1_distill"
QWEN = "qwen3_5_think"
WITHOUT = "qwen2_5"


def load_tokenizer(template: str) -> PreTrainedTokenizerFast:
    model = Tokenizer(WordLevel({"<s>": 0}, unk_token="<s>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<s>")
    tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text(encoding="utf-8")
    return tokenizer


def render(template: str, **kwargs: bool) -> str:
    text: str = load_tokenizer(template).apply_chat_template(
        USER, add_generation_prompt=True, tokenize=False, **kwargs
    )
    return text


def test_strings_and_conversations_are_read() -> None:
    assert read_texts(["a", [{"role": "assistant", "content": "b"}], [{"content": ""}]]) == [
        "a",
        "b",
        "",
    ]
    assert read_texts([]) == []


@pytest.mark.parametrize(
    "completion",
    [
        [],
        [{"role": "assistant"}],
        [{"role": "assistant", "content": None}],
        [{"role": "assistant", "content": [{"type": "text", "text": "2"}]}],
        [{"role": "assistant", "content": "2"}, {"role": "tool", "content": "3"}],
    ],
)
def test_anything_but_one_message_of_text_is_an_error(completion: list[dict[str, object]]) -> None:
    with pytest.raises(
        ValueError,
        match=r"^a completion must be one message whose content is text, not .*: rewards",
    ):
        read_texts([completion])


def test_think_block_that_was_taken_out_is_an_error() -> None:
    message = {"role": "assistant", "content": "2", "reasoning_content": "1 + 1 = 2"}
    with pytest.raises(
        ValueError, match=r"^a completion has its .*response_schema and response_template to None$"
    ):
        read_texts([[message]])
    assert read_texts([[message | {"reasoning_content": ""}]]) == ["2"]


@pytest.mark.parametrize("template", [DEEPSEEK, QWEN])
def test_tag_in_a_rendered_prompt_comes_back(template: str) -> None:
    prompt = render(template)
    assert prompt.endswith("<think>\n")  # the template is the case this is about
    assert read_texts([BODY], [prompt]) == [f"<think>\n{BODY}"]
    assert format_reward([BODY], prompts=[prompt]) == [1.0]


@pytest.mark.parametrize(
    ("prompt", "prefix"),
    [
        ("<think>", "<think>"),
        ("a<think>\n", "<think>\n"),
        ("<think> \n\t", "<think> \n\t"),
        ("<think>\n<think>\n", "<think>\n"),
        ("", ""),
        ("\n", ""),
        ("think>\n", ""),
        ("<think>\nSo", ""),
        ("</think>\n", ""),
        ("<think>\n\n</think>\n\n", ""),
        (render(QWEN, enable_thinking=False), ""),
        (render(WITHOUT), ""),
        (USER, ""),
        ([{"role": "user", "content": "<think>\n"}], ""),
        ([*USER, {"role": "assistant", "content": "<think>\n"}], "<think>\n"),
        ([*USER, {"role": "assistant", "content": "So: <think>"}], "<think>"),
        ([*USER, {"role": "assistant", "content": "<think>\nSo"}], ""),
        ([*USER, {"role": "assistant", "content": None}], ""),
        ([{"role": "assistant", "content": "<think>\n"}, *USER], ""),
        ([{"content": "<think>\n"}], ""),
        ([{"role": "assistant"}], ""),
        ([], ""),
    ],
)
def test_only_the_tag_that_ends_the_prompt_is_put_back(
    prompt: str | list[dict[str, str]], prefix: str
) -> None:
    prompts: Prompts = [prompt]
    assert read_texts([BODY], prompts) == [prefix + BODY]


def test_each_completion_gets_its_own_prompts_tag() -> None:
    assert read_texts(["a", "b"], ["<think>\n", "?"]) == ["<think>\na", "b"]
    with pytest.raises(ValueError, match="longer"):
        read_texts(["a", "b"], ["<think>\n"])


def test_leaving_the_tag_out_pays_only_where_the_template_wrote_it() -> None:
    whole = f"<think>\n{BODY}"
    for template, with_tag, without in [(WITHOUT, 1.0, 0.0), (DEEPSEEK, 0.0, 1.0)]:
        prompts = show_prefix([USER, USER], read_prefix(load_tokenizer(template)))
        assert format_reward([whole, BODY], prompts=prompts) == [with_tag, without]
    assert format_reward([BODY]) == [0.0]
    assert format_reward([BODY], prompts=[USER]) == [0.0]


@pytest.mark.parametrize(
    ("template", "kwargs", "prefix"),
    [
        (DEEPSEEK, {}, "<think>\n"),
        (QWEN, {}, "<think>\n"),
        (QWEN, {"enable_thinking": True}, "<think>\n"),
        (QWEN, {"enable_thinking": False}, ""),
        ("qwen3_5_nothink", {}, ""),
        ("qwen3_5_nothink", {"enable_thinking": True}, "<think>\n"),
        ("qwen3", {}, ""),
        (WITHOUT, {}, ""),
    ],
)
def test_prefix_of_a_template_is_found(template: str, kwargs: dict[str, bool], prefix: str) -> None:
    assert read_prefix(load_tokenizer(template), **kwargs) == prefix


def test_tokenizer_without_template_has_no_prefix() -> None:
    tokenizer = load_tokenizer(DEEPSEEK)
    tokenizer.chat_template = None
    assert read_prefix(tokenizer) == ""


def test_prefix_is_shown_in_conversations_only() -> None:
    prompts: Prompts = [USER, "rendered"]
    assistant = {"role": "assistant", "content": "<think>\n"}
    assert show_prefix(prompts, "<think>\n") == [[*USER, assistant], "rendered"]
    assert show_prefix(prompts, "") == [USER, "rendered"]
    assert prompts == [USER, "rendered"]  # and the trainer's own are left alone
    assert len(USER) == 1
