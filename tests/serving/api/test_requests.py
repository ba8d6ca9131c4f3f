"""The fields of requests: what is taken, what is refused, and how the refusal names it. Nothing here asks a router."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from openai.types.chat import ChatCompletionMessage
from pydantic import ValidationError

from colllm_ray.serving.api.requests import ChatRequest, CompletionRequest, TokenizeRequest

QUESTION = {"role": "user", "content": "the fox"}
CHAT = {"messages": [QUESTION]}
TEXT = {"prompt": "the fox"}
TEXTS = {"input_ids": [1, 2], "target_mask": [False, True]}
JSON = {"content-type": "application/json"}


def chat_request(**fields: object) -> ChatRequest:
    return ChatRequest.model_validate_json(json.dumps({**CHAT, **fields}))


def optional_fields(model: type[Any]) -> list[str]:
    return [name for name, field in model.model_fields.items() if not field.is_required()]


@pytest.mark.parametrize(
    ("model", "required"),
    [(ChatRequest, CHAT), (CompletionRequest, TEXT), (TokenizeRequest, TEXT)],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_null_is_as_absent_for_every_optional_field(model: type[Any], required: dict[str, object]) -> None:
    absent = model.model_validate_json(json.dumps(required))
    nulls = {name: None for name in optional_fields(model) if name not in required}
    given = model.model_validate_json(json.dumps({**nulls, "of_tomorrow": None, **required}))
    assert {name: getattr(given, name) for name in nulls} == {name: getattr(absent, name) for name in nulls}


def test_null_is_as_absent_in_objects_of_objects() -> None:
    nulls: dict[str, object] = {
        "stream": True,
        "stream_options": {"include_usage": None, "continuous_usage_stats": None, "include_obfuscation": None},
        "colllm": {"policy": None, "run_ahead": None, "trace": None, "wait_s": None, "doubt": {"tie": None}},
    }
    given = chat_request(**nulls)
    assert not given.wants_usage
    assert given.colllm == chat_request().colllm


def test_a_message_comes_back_as_openai_dumps_it() -> None:
    answer = ChatCompletionMessage(role="assistant", content="jumps")
    for dumped in (answer.model_dump(), answer.model_dump() | {"tool_calls": [], "annotations": [], "reasoning": None}):
        given = chat_request(messages=[QUESTION, dumped, QUESTION])
        assert [(turn.message.role, turn.message.content) for turn in given.messages] == [
            ("user", "the fox"),
            ("assistant", "jumps"),
            ("user", "the fox"),
        ]


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [], "tool_choice": "none", "parallel_tool_calls": True, "functions": [], "function_call": "none"},
        {"tool_choice": "auto", "store": False, "metadata": {}, "service_tier": "auto", "modalities": ["text"]},
        {"top_k": -1, "min_p": 0, "repetition_penalty": 1.0, "length_penalty": 1, "use_beam_search": False},
        {"top_k": 0, "min_p": 0.0, "min_tokens": 0, "stop_token_ids": [], "skip_special_tokens": True, "best_of": 1},
        {
            "frequency_penalty": 0,
            "presence_penalty": 0.0,
            "logit_bias": {},
            "n": 1,
            "response_format": {"type": "text"},
        },
        {"reasoning_effort": "none", "verbosity": "medium", "chat_template_kwargs": {}, "add_generation_prompt": True},
    ],
)
def test_values_that_change_nothing_are_taken(fields: dict[str, object], offline: TestClient) -> None:
    response = offline.post("/v1/chat/completions", json={**CHAT, **fields, "model": "nobody"})
    assert response.json()["error"]["code"] == "model_not_found", response.text  # which is looked at last


@pytest.mark.parametrize(
    ("field", "value", "taken"),
    [
        ("tools", [{"type": "function"}], "[]"),
        ("tool_choice", "required", '"none" or "auto"'),
        ("store", True, "false"),
        ("metadata", {"a": "b"}, "{}"),
        ("top_k", 5, "-1 or 0"),
        ("min_p", 0.1, "0"),
        ("repetition_penalty", 1.1, "1"),
        ("logit_bias", {"5": 1}, "{}"),
        ("response_format", {"type": "json_object"}, '{"type": "text"}'),
        ("modalities", ["audio"], '["text"]'),
        ("reasoning_effort", "high", '"none"'),
        ("skip_special_tokens", False, "true"),
    ],
)
def test_other_values_are_refused_with_those_that_are_taken(
    field: str, value: object, taken: str, offline: TestClient
) -> None:
    error = offline.post("/v1/chat/completions", json={**CHAT, field: value}).json()["error"]
    assert error["message"] == f"{field}: is not supported; leave it out, or give {taken}"
    assert (error["param"], error["code"]) == (field, "unsupported_parameter")


def test_the_usage_so_far_comes_with_each_chunk_where_usage_does() -> None:
    stats = {"continuous_usage_stats": True}
    assert chat_request(stream=True, stream_options={**stats, "include_usage": True}).wants_usage_so_far
    assert not chat_request(stream=True, stream_options=stats).wants_usage_so_far


def test_a_developer_speaks_as_the_system_does_and_names_are_passed_on() -> None:
    given = chat_request(messages=[{"role": "developer", "content": "Be brief."}, {**QUESTION, "name": "ann-2"}])
    assert [(turn.message.role, turn.message.name) for turn in given.messages] == [("system", None), ("user", "ann-2")]


@pytest.mark.parametrize("name", ["<|assistant|>", "two words", "", "a" * 65, "[INST]"])
def test_a_name_that_a_template_could_take_for_its_own_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        chat_request(messages=[{**QUESTION, "name": name}])


def test_top_p_of_nothing_is_greedy() -> None:
    assert chat_request(top_p=0, temperature=1.0, n=2).samplings == [None, None]
    assert chat_request(top_p=0).samplings == [None]


def test_seeds_have_64_bits_and_a_sign() -> None:
    lowest, highest = -(2**63), 2**63 - 1
    seeds = {}
    for seed in (lowest, -1, 0, 1, highest):
        drawn = [one.seed for one in chat_request(temperature=1.0, seed=seed, n=2).samplings if one is not None]
        seeds[seed] = drawn[0]
        assert drawn[1] == (drawn[0] + 1) % 2**64
    assert len(set(seeds.values())) == 5
    assert (seeds[0], seeds[1], seeds[highest]) == (0, 1, highest)
    for seed in (lowest - 1, highest + 1):
        with pytest.raises(ValidationError, match="seed"):
            chat_request(seed=seed)


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        ("v1/chat/completions", {}, "messages", "invalid_value"),
        ("v1/chat/completions", [], "body", "invalid_value"),
        ("v1/chat/completions", {**CHAT, "nonsense": 1}, "nonsense", "invalid_value"),
        ("v1/chat/completions", {**CHAT, "stream_options": {}}, "stream_options", "invalid_value"),
        ("v1/chat/completions", {**CHAT, "top_logprobs": 1}, "top_logprobs", "invalid_value"),
        (
            "v1/chat/completions",
            {**CHAT, "max_tokens": 1, "max_completion_tokens": 2},
            "max_completion_tokens",
            "invalid_value",
        ),
        ("v1/chat/completions", {**CHAT, "colllm": {"experts": ["wolf"]}}, "colllm.experts", "invalid_value"),
        (
            "v1/chat/completions",
            {**CHAT, "colllm": {"threshold": 1, "budget": 1}},
            "colllm.threshold",
            "invalid_value",
        ),
        ("v1/chat/completions", {**CHAT, "colllm": {"nonsense": 1}}, "colllm.nonsense", "invalid_value"),
        (
            "v1/chat/completions",
            {"messages": [{**QUESTION, "tool_calls": [{}]}]},
            "messages.0.tool_calls",
            "unsupported_parameter",
        ),
        ("v1/chat/completions", {"messages": [QUESTION] * 65}, "messages", "context_length_exceeded"),
        ("v1/completions", {**TEXT, "max_tokens": 0}, "max_tokens", "invalid_value"),
        ("v1/completions", {**TEXT, "stop": ["a"] * 17}, "stop", "invalid_value"),
        ("v1/completions", {**TEXT, "tools": []}, "tools", "invalid_value"),
        ("v1/completions", {"prompt": [1] * 65}, "prompt", "context_length_exceeded"),
        ("v1/completions", {"prompt": ["a"] * 600}, "prompt", "invalid_value"),
        ("v1/completions", {"prompt": ["a"] * 60, "n": 128}, "n", "invalid_value"),
        ("v1/completions", {"prompt": [1, 99999]}, "prompt", "invalid_value"),
        ("tokenize", {}, "prompt", "invalid_value"),
        ("tokenize", {**CHAT, "add_special_tokens": True}, "add_special_tokens", "invalid_value"),
        ("detokenize", {"tokens": [99999]}, "tokens", "invalid_value"),
        ("v1/colllm/scores", {"member": "wolf", "texts": [TEXTS]}, "member", "invalid_value"),
        (
            "v1/colllm/scores",
            {"member": "base", "texts": [TEXTS, {**TEXTS, "input_ids": [1, 99999]}]},
            "texts.1.input_ids",
            "invalid_value",
        ),
        (
            "v1/colllm/scores",
            {"member": "base", "texts": [{**TEXTS, "target_mask": [True, True]}]},
            "texts.0.target_mask",
            "invalid_value",
        ),
    ],
)
def test_every_refusal_has_a_parameter_and_a_code(
    path: str, body: object, param: str, code: str, offline: TestClient
) -> None:
    response = offline.post(f"/{path}", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, param, code), error
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"nonsense", b'{"prompt": "\xff"}', b'{"prompt": "half \\ud800"}', b"[" * 999]
)
def test_what_is_no_json_is_refused(content: bytes, offline: TestClient) -> None:
    response = offline.post("/v1/completions", content=content, headers=JSON)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, "body", "invalid_value")
    assert error["message"].startswith("the request is no JSON")


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "/"],
)
def test_another_content_type_is_refused(content_type: str | None, offline: TestClient) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    for path in ("/v1/chat/completions", "/tokenize", "/v1/colllm/scores"):
        response = offline.post(path, content=b'{"a": 1}', headers=headers)
        assert response.status_code == 415
        assert "application/json" in response.json()["error"]["message"]


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=UTF-8", "application/ld+json"])
def test_json_may_be_called_so(content_type: str, offline: TestClient) -> None:
    response = offline.post("/tokenize", content=b'{"prompt": "fox"}', headers={"content-type": content_type})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {**TEXT, "x" * 10**6: 1},
        {**TEXT, **{f"field {i}": 1 for i in range(10**5)}},
        {**TEXT, "model": "m" * 10**6},
        {**TEXT, "colllm": {"experts": ["e" * 10**6]}},
        {**TEXT, "user": "u" * 10**6, "stop": ["s" * 10**6]},
    ],
    ids=["name", "names", "model", "expert", "user"],
)
def test_a_refusal_is_short_whatever_is_refused(body: dict[str, object], offline: TestClient) -> None:
    response = offline.post("/v1/completions", json=body)
    assert response.status_code in (400, 404)
    assert len(response.content) < 3000


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/v1/models", 200),
        ("HEAD", "/v1/models/random", 200),
        ("HEAD", "/", 200),
        ("HEAD", "/openapi.json", 200),
        ("HEAD", "/v1/models/nobody", 404),
        ("HEAD", "/nothing", 404),
        ("HEAD", "/v1/completions", 405),
    ],
)
def test_head_is_answered_as_get_without_a_body(method: str, path: str, status: int, offline: TestClient) -> None:
    head, get = offline.request(method, path), offline.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"") == (status, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/v1/models", "GET, HEAD"), ("DELETE", "/v1/completions", "POST"), ("PUT", "/health", "GET, HEAD")],
)
def test_other_methods_are_refused_with_those_that_are_allowed(
    method: str, path: str, allowed: str, offline: TestClient
) -> None:
    response = offline.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert response.json()["error"]["message"] == "Method Not Allowed"


@pytest.mark.parametrize("path", ["/nothing", "/v1", "/%ff%fe", "/v1/%2e%2e/x", "/v1/chat/completions/x"])
def test_a_path_that_is_none_is_told_once(path: str, offline: TestClient) -> None:
    response = offline.get(path)
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "Not Found"
