"""Texts and conversations to token ids, as far as a model could take them in."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from colllm_ray.data.chat import encode_prompt, encode_text
from colllm_ray.errors import ColllmError
from colllm_ray.serving.api.aside import aside
from colllm_ray.serving.api.errors import TOO_LONG, ApiError, refused
from colllm_ray.serving.api.requests import MAX_TOKENS, ChatMessage

SLICE = 2**16  # characters of a long text that are encoded at once
TURN = 64  # characters whose encoding takes as long as a turn's rendering


class Encoder:
    """The tokenizer of a collaboration whose models have such a context."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
        self._tokenizer = tokenizer
        self._context = context
        self._longest_token = max(map(len, tokenizer.get_vocab()))

    async def prompt(self, text: str, add_special_tokens: bool) -> list[int]:
        """Token ids of what goes on in an answer. Raises ApiError where they are more than the context."""
        return await aside(len(text), self._encode, text, add_special_tokens, self._context)

    async def text(self, text: str, add_special_tokens: bool) -> list[int]:
        """Token ids of any text. Raises ApiError where they are too many to be told at once."""
        return await aside(len(text), self._encode, text, add_special_tokens, max(self._context, MAX_TOKENS))

    async def chat(self, turns: Sequence[ChatMessage]) -> list[int]:
        """Token ids of a conversation, up to where the answer begins. Raises ApiError."""
        size = sum(len(turn.content) if isinstance(turn.content, str) else SLICE for turn in turns)
        return await aside(size + TURN * len(turns), self._encode_chat, turns)

    def _encode(self, text: str, add_special_tokens: bool, most: int) -> list[int]:
        self._check_length(text, most, "prompt")
        return encode_text(text, self._tokenizer, add_special_tokens)

    def _encode_chat(self, turns: Sequence[ChatMessage]) -> list[int]:
        messages = [turn.message for turn in turns]
        self._check_length("".join(message.content for message in messages), self._context, "messages")
        try:
            return encode_prompt(messages, self._tokenizer)
        except ColllmError as error:
            raise refused(str(error), "messages") from error

    def _check_length(self, text: str, most: int, param: str) -> None:
        """Refuses what is too long by far, before all of it is encoded."""
        if len(text) > most * self._longest_token:
            raise _too_long(f"{len(text)} characters are more than {most} tokens", param)
        tokens = 0
        for begin in range(0, len(text) if len(text) > SLICE else 0, SLICE):
            piece = self._tokenizer(text[begin : begin + SLICE], add_special_tokens=False, verbose=False)
            tokens += len(piece["input_ids"])
            if tokens > 2 * most:  # where a text is cut into slices, tokens are cut as well
                raise _too_long(f"the first {begin + SLICE} characters are more than {most} tokens", param)


def _too_long(message: str, param: str) -> ApiError:
    return refused(f"{message}, which is the most that is taken", param, TOO_LONG)
