"""What the API does with tokenizers of many kinds; nothing here asks a router."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jinja2
import pytest
from fastapi.testclient import TestClient
from transformers import PreTrainedTokenizerBase

from tests.toy_models import CHATML, STRICT, sentencepiece

OfflineWith = Callable[[PreTrainedTokenizerBase], TestClient]
USER = {"role": "user", "content": "fox"}
NAMES = "{% for m in messages %}{{ m.name or m.role }}:{{ m.content }};{% endfor %}"


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([{"role": "system", "content": "x"}, USER], "System role not supported"),
        ([{"role": "developer", "content": "x"}, USER], "System role not supported"),
        ([USER, USER], "Conversation roles must alternate"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
def test_what_a_template_refuses_is_refused_as_messages(
    path: str, messages: list[Any], reason: str, offline_with: OfflineWith
) -> None:
    response = offline_with(sentencepiece(template=STRICT)).post(path, json={"messages": messages})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, "messages", "invalid_value")
    assert reason in error["message"]


def test_a_conversation_without_a_template_is_refused_as_messages(offline_with: OfflineWith) -> None:
    response = offline_with(sentencepiece()).post("/tokenize", json={"messages": [USER, USER]})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, "messages", "invalid_value")


@pytest.mark.parametrize("templates", [CHATML, {"default": CHATML, "tool_use": STRICT}])
def test_the_tokenizer_tells_the_template_that_it_encodes_with(templates: Any, offline_with: OfflineWith) -> None:
    tokenizer = sentencepiece(special=["<|im_start|>", "<|im_end|>"])
    tokenizer.chat_template = templates
    client = offline_with(tokenizer)
    info = client.get("/tokenizer_info").json()
    assert info["chat_template"] == CHATML
    text = jinja2.Template(info["chat_template"]).render(messages=[USER], add_generation_prompt=True)  # as lm-eval does
    asked = {"prompt": text, "add_special_tokens": False}
    encoded, of_messages = (client.post("/tokenize", json=body).json() for body in (asked, {"messages": [USER]}))
    assert encoded["tokens"] == of_messages["tokens"]


def test_the_name_of_who_speaks_comes_to_the_template(offline_with: OfflineWith) -> None:
    client = offline_with(sentencepiece(template=NAMES + "{% if add_generation_prompt %}assistant:{% endif %}"))
    tokens = client.post("/tokenize", json={"messages": [{**USER, "name": "ann"}, USER]}).json()["tokens"]
    assert client.post("/detokenize", json={"tokens": tokens}).json()["prompt"].endswith("ann:fox;user:fox;assistant:")


@pytest.mark.parametrize("special", [True, False, None])
def test_a_prompt_may_have_its_special_tokens_already(special: bool | None, offline_with: OfflineWith) -> None:
    """Counted by what is refused: the context has 64 tokens, the text is of 63, and the answer of one more."""
    client = offline_with(sentencepiece(prefix_space=False))
    body = {"prompt": "a" * 63, "add_special_tokens": special, "max_tokens": 2}
    message = client.post("/v1/completions", json=body).json()["error"]["message"]
    assert f"the prompt has {63 if special is False else 64} tokens" in message
