from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from colllm_ray.config import DataConfig
from colllm_ray.data.chat import encode_prompt, end_tokens
from colllm_ray.data.examples import Example, FailedRow, read_examples, read_whole
from colllm_ray.data.rows import Message
from colllm_ray.errors import ColllmError

PLAIN = {"prompt": "the quick", "completion": " brown fox"}
CHAT = {"messages": [{"role": "user", "content": "the fox"}, {"role": "assistant", "content": "jumps"}]}

ROWS_AS_THEY_ARE = DataConfig(train="-", validation="-")


def read(rows: list[object], tokenizer: PreTrainedTokenizerFast, folder: Path, context: int = 64) -> list[Example]:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return list(read_whole(str(path), "train", tokenizer, context, ROWS_AS_THEY_ARE))


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
        ("[" * 100_000, r"rows.jsonl:2: is no JSON that can be read"),
        ("[1]", r"rows.jsonl:2: is a JSON list; a row is an object"),
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
        (
            {"messages": [*CHAT["messages"][:1], {"role": "assistant", "content": None}]},
            r"rows.jsonl:2: messages.1.content: is null; a text is right",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, *CHAT["messages"][1:]]},
            r"rows.jsonl:2: messages.0.content: is a list of parts; one text is right",
        ),
        ({"messages": [{**CHAT["messages"][0], "tone": "x"}, CHAT["messages"][1]]}, r"rows.jsonl:2: messages.0.tone: "),
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
        list(read_examples(str(tmp_path / "bytes.jsonl"), "train", tokenizer, 64, ROWS_AS_THEY_ARE))


def test_rows_that_fail_are_told_and_the_others_read(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    rows = [
        PLAIN,
        "{no json",
        "",
        {"prompt": "the " * 80, "completion": "fox"},
        CHAT,
        {"prompt": "", "completion": "x"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    read = list(read_examples(str(path), "train", tokenizer, 64, ROWS_AS_THEY_ARE))
    failed = {row.example_id: row.reason for row in read if isinstance(row, FailedRow)}
    assert [row.example_id for row in read] == [f"train-0000000{i}" for i in range(5)]
    assert list(failed) == ["train-00000001", "train-00000002", "train-00000004"]
    assert failed["train-00000001"].startswith(f"{path}:2: is no JSON: ")
    assert failed["train-00000002"].startswith(f"{path}:4: is ")
    assert failed["train-00000004"].startswith(f"{path}:6: has an empty prompt")


def test_a_batch_of_rows_is_encoded_as_each_alone(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    rows = [{"prompt": f"the quick {i}", "completion": f" fox {i * 7}"} if i % 3 else CHAT for i in range(300)]
    together = read(list(rows), tokenizer, tmp_path)
    for row, example in list(zip(rows, together, strict=True))[::40]:
        (alone,) = read([row], tokenizer, tmp_path)
        assert (alone.input_ids, alone.target_mask) == (example.input_ids, example.target_mask)


def test_a_trailing_space_of_the_prompt_stays_in_the_prompt(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    trimming = PreTrainedTokenizerFast.from_pretrained(tmp_path / "tokenizer")
    trimming.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)  # as Llama's and Qwen's
    for one in (tokenizer, trimming):
        (example,) = read([{"prompt": "the quick ", "completion": "fox"}], one, tmp_path)
        assert one.decode(example.prompt_ids) == "the quick "
        assert one.decode(example.completion_ids) == "fox<|end|>"


def test_an_end_token_that_the_completion_brings_is_not_doubled(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    (example,) = read([{"prompt": "the", "completion": " fox<|end|>"}], tokenizer, tmp_path)
    assert tokenizer.decode(example.completion_ids) == " fox<|end|>"


def test_text_that_is_no_text_fails_alone(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(ColllmError, match=r"rows.jsonl:2: completion: .*unicode"):
        read([PLAIN, '{"prompt": "the", "completion": "\\ud800"}'], tokenizer, tmp_path)
