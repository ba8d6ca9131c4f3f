"""Conversations: what the base's chat template makes of them, and where in that the assistant speaks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Literal

from transformers import PreTrainedTokenizerBase

from colllm_ray.data.chat_template import ChatTemplate, chat_template
from colllm_ray.data.encoding import AnsweredText, encode, tokenize
from colllm_ray.data.rows import Message
from colllm_ray.data.text_encoder import text_encoder
from colllm_ray.errors import ColllmError

MARKERS = ("Qx1", "Zy2")  # two contents that have neither their first nor their last character in common
UNMISTAKABLE = 16  # characters; less could be found in what a template writes before the content, such as "<"


def encode_prompt(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a conversation, up to where the assistant's next words begin.

    Names of control tokens that stand in the messages are text. A tokenizer without a chat template takes a single user
    message as it is. Raises ColllmError for more than that, and where the template refuses or leaves out a message.
    """
    template = chat_template(tokenizer)
    if template is None:
        if len(messages) != 1 or messages[0].role != "user":
            raise ColllmError("the base's tokenizer has no chat template: it takes one user message, nothing else")
        content = messages[0].content
        names = tuple(name.span() for name in text_encoder(tokenizer).special.finditer(content))
        text = AnsweredText(content, spelled=names, adds_special_tokens=True)
    else:
        prompt = template.render(messages, add_generation_prompt=True)
        text = AnsweredText(prompt.text, spelled=prompt.spelled)
    (tokens,) = tokenize([text], tokenizer)
    return tokens.ids


def encode_text(text: str, tokenizer: PreTrainedTokenizerBase, adds_special_tokens: bool = True) -> list[int]:
    """Token ids of a text that an answer goes on with, without the end token that some tokenizers write behind it.

    As in all APIs of its kind, names of special tokens in the text are those tokens.
    """
    (tokens,) = tokenize([AnsweredText(text, adds_special_tokens=adds_special_tokens)], tokenizer)
    return tokens.ids


def end_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokenizer's own end token, and the one with which its chat template ends a turn, of whatever kind."""
    ends = {int(tokenizer.eos_token_id)}
    if chat_template(tokenizer) is not None:
        turns = [Message(role="user", content="a"), Message(role="assistant", content="b")]
        try:
            answered = answered_text(turns, tokenizer, "last")
        except ColllmError:  # a template may require what somebody sets up
            answered = answered_text([Message(role="system", content="c"), *turns], tokenizer, "last")
        (encoded,) = encode([answered], tokenizer)
        ends.add([token for token, target in zip(encoded.input_ids, encoded.target_mask, strict=True) if target][-1])
    return frozenset(ends)


def answered_text(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, loss_on: Literal["all", "last"]
) -> AnsweredText:
    """The conversation as the template writes it, with all of the assistant's turns or the last as answers.

    Raises ColllmError where the tokenizer has no template, the template refuses the messages, or it cannot be told
    where in its text a turn is.
    """
    template = chat_template(tokenizer)
    if template is None:
        raise ColllmError("holds 'messages', but the base's tokenizer has no chat template")
    rendered = template.render(messages)
    turns = [i for i, message in enumerate(messages) if message.role == "assistant"]
    blocks = template.generation_blocks(messages)
    begins = dict(zip(turns, blocks, strict=True)) if len(blocks) == len(turns) else {}
    learnt = turns[-1:] if loss_on == "last" else turns
    answers = [_answer(messages, i, rendered.text, begins.get(i), template) for i in learnt]
    return AnsweredText(rendered.text, tuple(answers), rendered.spelled)


def _answer(
    messages: Sequence[Message], i: int, text: str, block: int | None, template: ChatTemplate
) -> tuple[int, int]:
    """The characters of turn i: what a model has to write behind the prompt, up to where the content is over.

    `block` is where the template itself says that the turn begins.
    """
    content = messages[i].content.strip()
    begin = _prompt_length(messages[:i], text, template) if block is None else block
    if begin is not None and len(content) >= UNMISTAKABLE:
        behind = text[begin:].lstrip()
        if behind.startswith(content):
            return begin, len(text) - len(behind) + len(content)
    return _around_markers(messages, i, text, begin, template)


def _prompt_length(messages: Sequence[Message], text: str, template: ChatTemplate) -> int | None:
    """Where the prompt of the next turn ends in the conversation; None where the template writes it otherwise there."""
    try:
        prompt = template.render(messages, add_generation_prompt=True).text
    except ColllmError:  # a template may take a conversation and refuse a part of it: the markers tell then
        return None
    return len(prompt) if text.startswith(prompt) else None


def _around_markers(
    messages: Sequence[Message], i: int, text: str, begin: int | None, template: ChatTemplate
) -> tuple[int, int]:
    """What is around a turn's content is what stays when other contents stand in its place."""
    written = [
        template.render([*messages[:i], Message(role="assistant", content=marker), *messages[i + 1 :]]).text
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
