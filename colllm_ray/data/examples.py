"""Examples: token ids, and which of them are targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jinja2
from transformers import PreTrainedTokenizerBase

from colllm_ray.data.rows import Message, NumberedRow, read_jsonl
from colllm_ray.errors import ColllmError


@dataclass(frozen=True)
class Example:
    """One text that models are scored on.

    `target_mask[t]` says whether token t carries loss: the completion's tokens and its end token. The first token is
    never one, as nothing precedes it.
    """

    example_id: str
    input_ids: list[int]
    target_mask: list[bool]
    domain: str | None = None

    def __post_init__(self) -> None:
        if len(self.input_ids) != len(self.target_mask) or self.target_mask[0] or not any(self.target_mask):
            raise ValueError(f"{self.example_id}: needs a prompt, then at least one target")

    @property
    def prompt_ids(self) -> list[int]:
        """What comes before the last run of targets."""
        return self.input_ids[: self._completion_start()]

    @property
    def completion_ids(self) -> list[int]:
        """The last run of targets, end token included."""
        start = self._completion_start()
        length = next((i for i, target in enumerate(self.target_mask[start:]) if not target), None)
        return self.input_ids[start:] if length is None else self.input_ids[start : start + length]

    def _completion_start(self) -> int:
        last = len(self.target_mask) - 1 - self.target_mask[::-1].index(True)
        start = last
        while self.target_mask[start - 1]:
            start -= 1
        return start


def read_examples(path: Path | str, split: str, tokenizer: PreTrainedTokenizerBase, context: int) -> Iterator[Example]:
    """The rows of a JSONL file as examples, named "SPLIT-00000000" and on.

    `context` is the longest example that all models can take, in tokens. Raises ColllmError that names file and line.
    """
    for i, numbered in enumerate(read_jsonl(Path(path))):
        example = encode_row(numbered, f"{split}-{i:08d}", tokenizer)
        if len(example.input_ids) > context:
            raise ColllmError(
                f"{numbered.source}: is {len(example.input_ids)} tokens long (prompt {len(example.prompt_ids)}); "
                f"the models' context is {context}"
            )
        yield example


def encode_prompt(messages: list[Message], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a conversation, up to where the assistant's next words begin.

    A tokenizer without a chat template takes a single user message as it is. Raises ColllmError for more than that.
    """
    if tokenizer.chat_template is None:
        if len(messages) != 1 or messages[0].role != "user":
            raise ColllmError("the base's tokenizer has no chat template: it takes one user message, nothing else")
        return _ids(tokenizer, messages[0].content)
    text = _chat_text(messages, tokenizer, add_generation_prompt=True)
    return _ids(tokenizer, text, add_special_tokens=False)


def end_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end an answer: the tokenizer's own, and the one with which its chat template ends a turn."""
    ends = {int(tokenizer.eos_token_id)}
    if tokenizer.chat_template is not None:
        turns = [Message(role="user", content="a"), Message(role="assistant", content="b")]
        ids, offsets = _ids_and_offsets(tokenizer, _chat_text(turns, tokenizer), add_special_tokens=False)
        before = _chat_text(turns[:1], tokenizer, add_generation_prompt=True)
        last = ids[_turn_end(ids, _token_at(len(before), offsets), tokenizer) - 1]
        if last in tokenizer.all_special_ids:
            ends.add(last)
    return frozenset(ends)


def encode_row(numbered: NumberedRow, example_id: str, tokenizer: PreTrainedTokenizerBase) -> Example:
    """One row as an example. Raises ColllmError that names where the row stands."""
    row = numbered.row
    try:
        if row.messages is None:
            input_ids, target_mask = _encode_completion(row.prompt or "", row.completion or "", tokenizer)
        else:
            input_ids, target_mask = _encode_messages(row.messages, tokenizer)
    except ColllmError as error:
        raise ColllmError(f"{numbered.source}: {error}") from error
    if not any(target_mask) or target_mask[0]:
        raise ColllmError(f"{numbered.source}: has an empty prompt; a model needs at least one token before the answer")
    return Example(example_id, input_ids, target_mask, row.domain)


def _encode_completion(
    prompt: str, completion: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[bool]]:
    """Encoded in one piece, so that a completion's first token is what a model would write there."""
    end = int(tokenizer.eos_token_id)
    ids, offsets = _ids_and_offsets(tokenizer, prompt + completion)
    if ids and ids[-1] == end:  # some tokenizers write it themselves
        ids, offsets = ids[:-1], offsets[:-1]
    boundary = len(prompt)
    if any(begin < boundary < stop for begin, stop in offsets):  # a token would be half prompt, half completion
        prompt_ids = _ids(tokenizer, prompt)
        ids = prompt_ids + _ids(tokenizer, completion, add_special_tokens=False)
        mask = [i >= len(prompt_ids) for i in range(len(ids))]
    else:
        mask = [stop > boundary for _, stop in offsets]
    return [*ids, end], [*mask, True]


def _encode_messages(messages: list[Message], tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[bool]]:
    if tokenizer.chat_template is None:
        raise ColllmError("holds 'messages', but the base's tokenizer has no chat template")
    text = _chat_text(messages, tokenizer)
    ids, offsets = _ids_and_offsets(tokenizer, text, add_special_tokens=False)
    mask = [False] * len(ids)
    for i, message in enumerate(messages):
        if message.role != "assistant":
            continue
        before = _chat_text(messages[:i], tokenizer, add_generation_prompt=True)
        if not text.startswith(before):
            raise ColllmError(
                f"the base's chat template does not write the prompt of message {i} as the conversation goes on, "
                "so its targets cannot be told apart"
            )
        start = _token_at(len(before), offsets)
        for t in range(start, _turn_end(ids, start, tokenizer)):
            mask[t] = True
    return ids, mask


def _token_at(character: int, offsets: list[tuple[int, int]]) -> int:
    """The first token that begins at a character of the text or behind it."""
    return next(t for t, (begin, _) in enumerate(offsets) if begin >= character)


def _turn_end(ids: list[int], start: int, tokenizer: PreTrainedTokenizerBase) -> int:
    """Where a turn that begins at `start` is over: behind its end token, whatever the template writes after that."""
    special = set(tokenizer.all_special_ids)
    return next((t + 1 for t in range(start, len(ids)) if ids[t] in special), len(ids))


def _chat_text(messages: list[Message], tokenizer: PreTrainedTokenizerBase, add_generation_prompt: bool = False) -> str:
    turns = [message.model_dump() for message in messages]
    try:
        return str(tokenizer.apply_chat_template(turns, add_generation_prompt=add_generation_prompt, tokenize=False))
    except jinja2.TemplateError as error:
        raise ColllmError(f"the base's chat template refuses the messages: {error}") from error


def _ids_and_offsets(
    tokenizer: PreTrainedTokenizerBase, text: str, add_special_tokens: bool = True
) -> tuple[list[int], list[tuple[int, int]]]:
    encoded = tokenizer(text, add_special_tokens=add_special_tokens, return_offsets_mapping=True)
    return list(encoded["input_ids"]), list(encoded["offset_mapping"])


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, add_special_tokens: bool = True) -> list[int]:
    return list(tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])
