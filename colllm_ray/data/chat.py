"""Conversations: what the base's chat template makes of them, and where in that the assistant speaks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Literal

import jinja2
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from colllm_ray.data.encoding import AnsweredText, encode
from colllm_ray.data.rows import Message
from colllm_ray.errors import ColllmError

MARKERS = ("Qx1", "Zy2")  # two contents that have neither their first nor their last character in common
UNMISTAKABLE = 16  # characters; less could be found in what a template writes before the content, such as "<"
GENERATION_BLOCK = re.compile(r"\{%-?\s*generation\s*-?%\}")


def encode_prompt(messages: list[Message], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a conversation, up to where the assistant's next words begin.

    A tokenizer without a chat template takes a single user message as it is. Raises ColllmError for more than that.
    """
    if tokenizer.chat_template is None:
        if len(messages) != 1 or messages[0].role != "user":
            raise ColllmError("the base's tokenizer has no chat template: it takes one user message, nothing else")
        return list(tokenizer(messages[0].content)["input_ids"])
    text = _render(messages, tokenizer, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def end_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end an answer: the tokenizer's own, and the one with which its chat template ends a turn."""
    ends = {int(tokenizer.eos_token_id)}
    if tokenizer.chat_template is not None:
        turns = [Message(role="user", content="a"), Message(role="assistant", content="b")]
        (encoded,) = encode([answered_text(turns, tokenizer, "last")], tokenizer)
        ends.add([token for token, target in zip(encoded.input_ids, encoded.target_mask, strict=True) if target][-1])
    return frozenset(ends)


def answered_text(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, loss_on: Literal["all", "last"]
) -> AnsweredText:
    """The conversation as the template writes it, with all of the assistant's turns or the last as answers.

    Raises ColllmError where the tokenizer has no template, the template refuses the messages, or it cannot be told
    where in its text a turn is.
    """
    if tokenizer.chat_template is None:
        raise ColllmError("holds 'messages', but the base's tokenizer has no chat template")
    text = _render(messages, tokenizer)
    turns = [i for i, message in enumerate(messages) if message.role == "assistant"]
    blocks = _generation_blocks(messages, tokenizer)
    begins = dict(zip(turns, blocks, strict=True)) if len(blocks) == len(turns) else {}
    answers = [
        _answer(messages, i, text, begins.get(i), tokenizer) for i in (turns[-1:] if loss_on == "last" else turns)
    ]
    return AnsweredText(text, tuple(answers), adds_special_tokens=False)


def _answer(
    messages: Sequence[Message], i: int, text: str, block: int | None, tokenizer: PreTrainedTokenizerBase
) -> tuple[int, int]:
    """The characters of turn i: what a model has to write behind the prompt, up to where the content is over.

    `block` is where the template itself says that the turn begins.
    """
    content = messages[i].content.strip()
    begin = _prompt_length(messages[:i], text, tokenizer) if block is None else block
    if begin is not None and len(content) >= UNMISTAKABLE:
        behind = text[begin:].lstrip()
        if behind.startswith(content):
            return begin, len(text) - len(behind) + len(content)
    return _around_markers(messages, i, text, begin, tokenizer)


def _prompt_length(messages: Sequence[Message], text: str, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Where the prompt of the next turn ends in the conversation; None where the template writes it otherwise there."""
    try:
        prompt = _render(messages, tokenizer, add_generation_prompt=True)
    except ColllmError:  # a template may take a conversation and refuse a part of it: the markers tell then
        return None
    return len(prompt) if text.startswith(prompt) else None


def _around_markers(
    messages: Sequence[Message], i: int, text: str, begin: int | None, tokenizer: PreTrainedTokenizerBase
) -> tuple[int, int]:
    """What is around a turn's content is what stays when other contents stand in its place."""
    written = [
        _render([*messages[:i], Message(role="assistant", content=marker), *messages[i + 1 :]], tokenizer)
        for marker in MARKERS
    ]
    before = _common_beginning(*written)
    after = _common_beginning(*(one[len(before) :][::-1] for one in written))[::-1]
    if begin is None and text.startswith(before):
        begin = len(before)
    stop = len(text) - len(after)
    if written[0] == written[1] or begin is None or not text.endswith(after) or stop < begin:
        raise ColllmError(
            f"where the base's chat template writes message {i} cannot be told: it leaves it out, or changes what is "
            "around it with its content; `loss_on: last` needs the last one alone"
        )
    return begin, stop


def _common_beginning(one: str, other: str) -> str:
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _generation_blocks(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Where what the template itself marks as the assistant's begins."""
    if not GENERATION_BLOCK.search(tokenizer.get_chat_template()):
        return []
    _, (spans,) = render_jinja_template(
        conversations=[_turns(messages)],
        chat_template=tokenizer.get_chat_template(),
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    return [begin for begin, _ in spans]


def _render(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, add_generation_prompt: bool = False
) -> str:
    try:
        return str(
            tokenizer.apply_chat_template(_turns(messages), add_generation_prompt=add_generation_prompt, tokenize=False)
        )
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise ColllmError(f"the base's chat template refuses the messages: {error}") from error


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [message.model_dump(exclude_none=True) for message in messages]
