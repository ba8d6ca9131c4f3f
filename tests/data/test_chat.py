"""Chat templates in the styles of those that models come with; what is learnt must be what the assistant says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from colllm_ray.data.chat import answered_text, encode_prompt, end_tokens
from colllm_ray.data.encoding import encode
from colllm_ray.data.rows import Message
from colllm_ray.errors import ColllmError
from colllm_ray.lab.tokenizer import train_tokenizer

TEXTS = ["the quick brown fox jumps over the lazy dog", "user assistant system\n\nwho says what?\n", "où est le café?"]


@dataclass(frozen=True)
class Style:
    """A template; how it writes an answer behind the prompt, and the token that ends it."""

    template: str
    end: str
    special: tuple[str, ...]
    before: str = ""
    strips: bool = False
    takes_system: bool = True


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + (m.content | trim) + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content + '</s>' }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim }}"
    "{{ '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}\n{{ '<|' + m.role + '|>\n' + m.content + '</s>' }}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
THINKING = (  # the prompt makes the model think; a conversation does not hold its thoughts
    "{% for m in messages %}{% set c = m.content.split('</think>')[-1] if m.role == 'assistant' else m.content %}"
    "{{ '<|im_start|>' + m.role + '\n' + c + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
EMPTY_THOUGHTS = (  # the last answer begins with thoughts that are empty, those before it do not
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHANNELS = (  # special tokens stand between the prompt and what is said
    "{% for m in messages %}{{ '<|start|>' + m.role }}{% if m.role == 'assistant' %}{{ '<|channel|>final' }}{% endif %}"
    "{{ '<|message|>' + m.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
BLOCKS = (  # says itself what is the assistant's, without the end token
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}{% endgeneration %}{% else %}"
    "{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
BLOCKS_WITH_END = BLOCKS.replace("{% endgeneration %}", "{{ '<|im_end|>\n' }}{% endgeneration %}").replace(
    "{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}", "{{ m.content + '<|im_end|>\n' }}{% endif %}"
)

IM = ("<|im_start|>", "<|im_end|>")
STYLES = {
    "chatml": Style(CHATML, "<|im_end|>", IM),
    "llama3": Style(LLAMA3, "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), strips=True),
    "mistral": Style(MISTRAL, "</s>", ("[INST]", "[/INST]"), before=" ", takes_system=False),
    "gemma": Style(GEMMA, "<end_of_turn>", ("<start_of_turn>", "<end_of_turn>"), strips=True, takes_system=False),
    "zephyr": Style(ZEPHYR, "</s>", ()),
    "thinking": Style(THINKING, "<|im_end|>", IM),
    "channels": Style(
        CHANNELS, "<|end|>", ("<|start|>", "<|channel|>", "<|message|>"), before="<|channel|>final<|message|>"
    ),
    "blocks": Style(BLOCKS, "<|im_end|>", IM),
    "blocks with end": Style(BLOCKS_WITH_END, "<|im_end|>", IM),
}


def tokenizer_of(template: str, special: tuple[str, ...]) -> PreTrainedTokenizerFast:
    tokenizer = train_tokenizer(TEXTS, vocab_size=320)
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>", "extra_special_tokens": list(special)})
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    return {name: tokenizer_of(style.template, style.special) for name, style in STYLES.items()}


def conversation(*turns: str, system: str | None = None) -> list[Message]:
    said = [Message(role="assistant" if i % 2 else "user", content=text) for i, text in enumerate(turns)]
    return said if system is None else [Message(role="system", content=system), *said]


def runs(
    messages: list[Message], tokenizer: PreTrainedTokenizerFast, loss_on: Literal["all", "last"] = "all"
) -> list[str]:
    """What is learnt, turn by turn, as text."""
    (encoded,) = encode([answered_text(messages, tokenizer, loss_on)], tokenizer)
    found: list[list[int]] = []
    for t, (token, target) in enumerate(zip(encoded.input_ids, encoded.target_mask, strict=True)):
        if target:
            if not encoded.target_mask[t - 1]:
                found.append([])
            found[-1].append(token)
    return [tokenizer.decode(ids) for ids in found]


def expected(style: Style, messages: list[Message]) -> list[str]:
    said = [message.content for message in messages if message.role == "assistant"]
    return [f"{style.before}{text.strip() if style.strips else text}{style.end}" for text in said]


ANSWERS = ["jumps", "4", "  over the\nlazy dog ", "assistant", "end", "fox\n\n", "café 日本語", "\tuser\n", "<"]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("name", STYLES)
def test_what_is_learnt_is_what_the_assistant_says_and_the_end_of_its_turn(
    name: str, answer: str, tokenizers: dict[str, PreTrainedTokenizerFast]
) -> None:
    style, tokenizer = STYLES[name], tokenizers[name]
    system = "the system says what" if style.takes_system else None
    for messages in (
        conversation("the fox?", answer, system=system),
        conversation("the fox?", answer, "who?", "the dog", answer, answer),
    ):
        assert runs(messages, tokenizer) == expected(style, messages)
        assert runs(messages, tokenizer, "last") == expected(style, messages)[-1:]


@pytest.mark.parametrize("name", ["chatml", "llama3", "mistral", "zephyr", "channels"])
def test_an_example_begins_as_the_prompt_that_is_answered(
    name: str, tokenizers: dict[str, PreTrainedTokenizerFast]
) -> None:
    tokenizer, messages = tokenizers[name], conversation("the fox?", " jumps", "who?", "\n\nthe dog")
    (encoded,) = encode([answered_text(messages, tokenizer, "last")], tokenizer)
    prompt = encode_prompt(messages[:-1], tokenizer)
    assert encoded.input_ids[: len(prompt)] == prompt
    assert encoded.target_mask.index(True) == len(prompt)


TOKENIZERS = {name: tokenizer_of(style.template, style.special) for name, style in STYLES.items()}
TRIMMING = tokenizer_of(CHATML, IM)  # leaves a word's space out of its characters, as Llama's and Qwen's do
TRIMMING.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)


@given(
    st.lists(st.text("a \n<|é日", min_size=1, max_size=24), min_size=2, max_size=4).filter(lambda it: len(it) % 2 == 0)
)
def test_whatever_is_said_is_told_apart(turns: list[str]) -> None:
    messages = conversation(*turns)
    for name, style in STYLES.items():
        assert runs(messages, TOKENIZERS[name]) == expected(style, messages), name
    assert runs(messages, TRIMMING) == expected(STYLES["chatml"], messages)


@pytest.mark.parametrize("name", STYLES)
def test_a_turn_ends_with_the_templates_own_token(name: str, tokenizers: dict[str, PreTrainedTokenizerFast]) -> None:
    tokenizer = tokenizers[name]
    assert end_tokens(tokenizer) == set(tokenizer.convert_tokens_to_ids(["</s>", STYLES[name].end]))


@pytest.mark.parametrize("name", [name for name, style in STYLES.items() if not style.takes_system])
def test_a_template_without_system_refuses_it(name: str, tokenizers: dict[str, PreTrainedTokenizerFast]) -> None:
    with pytest.raises(ColllmError, match=r"refuses the messages: .*(not supported|are supported)"):
        answered_text(conversation("a", "b", system="c"), tokenizers[name], "all")


def test_what_the_model_writes_before_its_words_is_learnt_too() -> None:
    tokenizer = tokenizer_of(EMPTY_THOUGHTS, IM)
    thoughts = "<think>\n\n</think>\n\n"
    assert runs(conversation("a", "b", "c", "d"), tokenizer) == ["b<|im_end|>", f"{thoughts}d<|im_end|>"]


def test_thoughts_that_a_template_takes_out_are_not_learnt(tokenizers: dict[str, PreTrainedTokenizerFast]) -> None:
    messages = conversation("a", "<think>the fox</think>jumps", "b", "<think>dog</think>over")
    assert runs(messages, tokenizers["thinking"]) == ["jumps<|im_end|>", "over<|im_end|>"]


def test_a_template_without_end_token_ends_with_the_tokenizers_own() -> None:
    plain = (
        "{% for m in messages %}{{ '### ' + m.role + ':\n' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}"
    )
    tokenizer = tokenizer_of(plain, ())
    assert runs(conversation("a", "the fox", "b", "jumps"), tokenizer) == ["the fox", "jumps\n</s>"]
    assert end_tokens(tokenizer) == {tokenizer.eos_token_id}


def test_the_special_tokens_of_a_template_need_no_name() -> None:
    tokenizer = tokenizer_of(CHATML, ())
    tokenizer.add_tokens(list(IM), special_tokens=True)
    assert runs(conversation("a", "b", "c", "d"), tokenizer) == ["b<|im_end|>", "d<|im_end|>"]


def test_a_turn_that_the_template_leaves_out_is_refused() -> None:
    last_only = "{% for m in messages %}{% if m.role == 'user' or loop.last %}" + CHATML.partition("%}")[2].replace(
        "{% endfor %}", "{% endif %}{% endfor %}"
    )
    tokenizer = tokenizer_of(last_only, IM)
    for messages in (conversation("a", "b", "c", "d"), conversation("a", "b", "c")):
        with pytest.raises(ColllmError, match=r"leaves out what message 1 \(assistant\) says"):
            encode_prompt(messages, tokenizer)
    with pytest.raises(ColllmError, match=r"leaves out what message 1 \(assistant\) says"):
        runs(conversation("a", "b", "c", "d"), tokenizer, "last")
    assert runs(conversation("a", "b"), tokenizer) == ["b<|im_end|>"]


def test_a_template_that_changes_with_the_content_is_refused() -> None:
    counting = "{{ messages[-1].content | length }}" + THINKING
    with pytest.raises(ColllmError, match="writes message 1 cannot be told"):
        runs(conversation("a", "the fox"), tokenizer_of(counting, IM))


def test_a_template_may_fail_in_python_as_well() -> None:
    with pytest.raises(ColllmError, match="refuses the messages: "):
        runs(conversation("a", "b"), tokenizer_of("{{ messages[0].content + 1 }}", IM))
