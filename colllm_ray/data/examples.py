"""Examples: token ids, and which of them are targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from colllm_ray.data.rows import Message, NumberedRow, Row, read_jsonl
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
    return _chat_ids(messages, tokenizer, add_generation_prompt=True)


def encode_row(numbered: NumberedRow, example_id: str, tokenizer: PreTrainedTokenizerBase) -> Example:
    """One row as an example. Raises ColllmError that names where the row stands."""
    row = numbered.row
    if row.messages is None:
        input_ids, target_mask = _encode_completion(row, tokenizer)
    else:
        input_ids, target_mask = _encode_messages(row.messages, numbered.source, tokenizer)
    if not target_mask or target_mask[0]:
        raise ColllmError(f"{numbered.source}: has an empty prompt; a model needs at least one token before the answer")
    return Example(example_id, input_ids, target_mask, row.domain)


def _encode_completion(row: Row, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[bool]]:
    prompt = _ids(tokenizer, row.prompt or "")
    completion = [*_ids(tokenizer, row.completion or "", is_start=False), int(tokenizer.eos_token_id)]
    return prompt + completion, [False] * len(prompt) + [True] * len(completion)


def _encode_messages(
    messages: list[Message], source: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[bool]]:
    if tokenizer.chat_template is None:
        raise ColllmError(f"{source}: holds 'messages', but the base's tokenizer has no chat template")
    input_ids = _chat_ids(messages, tokenizer, add_generation_prompt=False)
    target_mask = [False] * len(input_ids)
    for i, message in enumerate(messages):
        if message.role != "assistant":
            continue
        before = _chat_ids(messages[:i], tokenizer, add_generation_prompt=True)
        through = _chat_ids(messages[: i + 1], tokenizer, add_generation_prompt=False)
        if through[: len(before)] != before or input_ids[: len(through)] != through:
            raise ColllmError(
                f"{source}: the base's chat template writes message {i} differently when another follows; "
                "its targets cannot be told apart"
            )
        for t in range(len(before), _turn_end(through, len(before), int(tokenizer.eos_token_id))):
            target_mask[t] = True
    return input_ids, target_mask


def _turn_end(ids: list[int], start: int, end_token: int) -> int:
    """Where a turn that begins at `start` is over: behind its end token, whatever the template writes after that."""
    return ids.index(end_token, start) + 1 if end_token in ids[start:] else len(ids)


def _chat_ids(messages: list[Message], tokenizer: PreTrainedTokenizerBase, add_generation_prompt: bool) -> list[int]:
    turns = [message.model_dump() for message in messages]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=add_generation_prompt, tokenize=False)
    return list(tokenizer(str(text), add_special_tokens=False)["input_ids"])


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, is_start: bool = True) -> list[int]:
    return list(tokenizer(text, add_special_tokens=is_start)["input_ids"])
