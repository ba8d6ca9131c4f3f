from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from colllm_ray.data.examples import Example, encode_prompt, end_tokens, read_examples
from colllm_ray.data.rows import Message
from colllm_ray.errors import ColllmError

PLAIN = {"prompt": "the quick", "completion": " brown fox"}
CHAT = {"messages": [{"role": "user", "content": "the fox"}, {"role": "assistant", "content": "jumps"}]}


def read(rows: list[object], tokenizer: PreTrainedTokenizerFast, folder: Path, context: int = 64) -> list[Example]:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return list(read_examples(path, "train", tokenizer, context))


def test_a_completion_and_its_end_token_are_targets(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (example,) = read([PLAIN], tokenizer, tmp_path)
    assert tokenizer.decode(example.prompt_ids) == "the quick"
    assert tokenizer.decode(example.completion_ids) == " brown fox<|end|>"
    assert example.input_ids == example.prompt_ids + example.completion_ids


def test_what_the_assistant_says_is_a_target(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (example,) = read([CHAT], tokenizer, tmp_path)
    assert tokenizer.decode(example.prompt_ids) == "<|user|>the fox<|assistant|>"
    assert tokenizer.decode(example.completion_ids) == "jumps<|end|>"
    assert example.prompt_ids == encode_prompt([Message(role="user", content="the fox")], tokenizer)


def test_every_turn_of_the_assistant_is_a_target(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (example,) = read([{"messages": CHAT["messages"] * 2}], tokenizer, tmp_path)
    targets = [token for token, target in zip(example.input_ids, example.target_mask, strict=True) if target]
    assert tokenizer.decode(targets) == "jumps<|end|>jumps<|end|>"
    assert tokenizer.decode(example.completion_ids) == "jumps<|end|>"


def with_template(tokenizer: PreTrainedTokenizerFast, folder: Path, template: str) -> PreTrainedTokenizerFast:
    tokenizer.save_pretrained(folder / "tokenizer")
    other: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    other.chat_template = template
    return other


def test_what_a_template_writes_after_the_end_token_is_no_target(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    other = with_template(tokenizer, tmp_path, tokenizer.chat_template.replace("<|end|>", "<|end|> fox"))
    (example,) = read([CHAT], other, tmp_path)
    assert other.decode(example.completion_ids) == "jumps<|end|>"
    assert other.decode(example.input_ids).endswith("<|end|> fox")
    assert end_tokens(other) == {other.eos_token_id}


def test_a_template_may_end_its_turns_with_a_token_of_its_own(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    other = with_template(tokenizer, tmp_path, tokenizer.chat_template.replace("<|end|>", "<|pad|>\n"))
    (example,) = read([CHAT], other, tmp_path)
    assert other.decode(example.completion_ids) == "jumps<|pad|>"
    assert end_tokens(other) == {other.eos_token_id, other.pad_token_id}


def test_content_that_melts_into_the_template_is_still_told_apart(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    newlines = {"messages": [{"role": "user", "content": "the fox"}, {"role": "assistant", "content": "\n\njumps"}]}
    other = with_template(tokenizer, tmp_path, tokenizer.chat_template.replace("<|assistant|>", "<|assistant|>\n"))
    (example,) = read([newlines], other, tmp_path)
    assert other.decode(example.completion_ids).strip() == "jumps<|end|>"


def test_a_template_that_refuses_is_reported_with_its_line(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    refusing = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(ColllmError, match=r"rows.jsonl:1: .* refuses the messages: System role not supported"):
        read([CHAT], with_template(tokenizer, tmp_path, refusing), tmp_path)


def test_a_token_across_the_boundary_is_avoided(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (example,) = read([{"prompt": "the qu", "completion": "ick"}], tokenizer, tmp_path)
    assert tokenizer.decode(example.prompt_ids) == "the qu"
    assert tokenizer.decode(example.completion_ids) == "ick<|end|>"


def test_examples_are_numbered_and_blank_lines_are_not(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    examples = read([PLAIN, "", CHAT], tokenizer, tmp_path)
    assert [example.example_id for example in examples] == ["train-00000000", "train-00000001"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{no json", r"rows.jsonl:2: is no JSON"),
        ({"prompt": "the"}, r"rows.jsonl:2: has no 'completion'"),
        ({"completion": "the"}, r"rows.jsonl:2: has no 'prompt'"),
        ({}, r"rows.jsonl:2: has no 'prompt' and 'completion'"),
        ([1], r"rows.jsonl:2: "),
        ({"prompt": "the", "completion": ""}, r"rows.jsonl:2: completion: "),
        ({"prompt": "the", "completion": 3}, r"rows.jsonl:2: completion: "),
        ({"prompt": "", "completion": "the"}, r"rows.jsonl:2: has an empty prompt"),
        ({**PLAIN, **CHAT}, r"rows.jsonl:2: holds 'messages' beside"),
        ({"messages": CHAT["messages"][:1]}, r"rows.jsonl:2: 'messages' must end with what the assistant says"),
        ({"messages": CHAT["messages"][1:]}, r"rows.jsonl:2: 'messages' must begin with"),
        ({"messages": [{"role": "cat", "content": "x"}]}, r"rows.jsonl:2: messages.0.role: "),
        ({"prompt": "the " * 80, "completion": "fox"}, r"rows.jsonl:2: is \d+ tokens long .* context is 64"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(
    bad: object, message: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with pytest.raises(ColllmError, match=message):
        read([PLAIN, bad], tokenizer, tmp_path)


@pytest.mark.parametrize("rows", [[], ["", "  "]])
def test_a_file_without_rows_is_refused(rows: list[object], tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(ColllmError, match=r"rows.jsonl: holds no rows"):
        read(rows, tokenizer, tmp_path)


def test_a_file_that_is_no_text_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ColllmError, match=r"bytes.jsonl: is no UTF-8"):
        list(read_examples(tmp_path / "bytes.jsonl", "train", tokenizer, 64))
