"""What a server refuses, and what becomes of clients that leave: a second application, with narrow limits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray import serve

from colllm_ray.config import ServingConfig
from colllm_ray.decoding.team import TeamSpec
from colllm_ray.serving.api.keys import key_hashes
from colllm_ray.serving.application import http_application
from tests.collaborations import random_collaboration
from tests.commands import wait_until

ModelFolder = Callable[[str, int], Path]
APPLICATION = "narrow"
KEYS = ("one-good-key", "another-good-key")
SECRET = "xylophone zebra"  # a prompt that no log may hold
LONG = {"max_tokens": 50, "ignore_eos": True, "temperature": 1.0}
BODY = 3000  # bytes


@pytest.fixture(scope="module")
def narrow(url: str, model_folder: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("\n".join(KEYS))
    config = ServingConfig(
        api_keys=str(keys),
        max_answers=2,
        max_waiting=3,
        timeout_s=1.0,
        max_body_bytes=BODY,
        cors_origins=("https://friend.example",),
    )
    trained = random_collaboration(model_folder, "llama", ["qwen3"])
    trained = replace(trained, collaboration=trained.collaboration.model_copy(update={"serving": config}))
    application = http_application(TeamSpec.of(trained), key_hashes(config.api_keys))
    serve.run(application, name=APPLICATION, route_prefix=f"/{APPLICATION}")
    try:
        yield f"{url}/{APPLICATION}"
    finally:
        serve.delete(APPLICATION)


@pytest.fixture
def client(narrow: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=narrow, headers={"authorization": f"Bearer {KEYS[0]}"}, timeout=60) as client:
        yield client


def complete(client: httpx.Client, **fields: object) -> httpx.Response:
    return client.post("/v1/completions", json={"prompt": "the fox", **fields})


def sessions() -> list[int]:
    """On the base and on the expert."""
    return [
        serve.get_deployment_handle(name, APPLICATION).sessions.remote().result() for name in ("Router", "Expert-e0")
    ]


@pytest.mark.parametrize("key", [None, "", "Bearer", "Bearer wrong-key", f"Basic {KEYS[0]}", f"Bearer {KEYS[0]}x"])
def test_a_request_without_a_good_key_is_refused(key: str | None, narrow: str) -> None:
    headers = {} if key is None else {"authorization": key}
    for method, path in (("POST", "/v1/completions"), ("GET", "/v1/models"), ("GET", "/tokenizer_info"), ("GET", "/x")):
        response = httpx.request(method, f"{narrow}{path}", headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error"]["code"] == "invalid_api_key"
    assert httpx.get(f"{narrow}/health", headers=headers).status_code == 200
    assert httpx.get(f"{narrow}/", headers=headers).status_code == 200


@pytest.mark.parametrize("key", KEYS)
def test_each_of_the_keys_is_good(key: str, narrow: str) -> None:
    assert httpx.get(f"{narrow}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200


def test_a_request_that_is_too_large_is_refused(client: httpx.Client) -> None:
    def piecewise() -> Iterator[bytes]:  # without a content-length
        for _ in range(10):
            yield b" " * (BODY // 5)

    body = json.dumps({"prompt": "a", "user": "u" * BODY}).encode()
    for content in (body, piecewise()):
        response = client.post("/v1/completions", content=content, headers={"content-type": "application/json"})
        assert response.status_code == 413
        assert f"at most {BODY} bytes" in response.json()["error"]["message"]
    assert complete(client, max_tokens=2).status_code == 200


def test_a_request_is_refused_where_too_many_wait(client: httpx.Client) -> None:
    with ThreadPoolExecutor(1) as pool:
        many = pool.submit(complete, client, n=20, **LONG)
        refused = complete(client, max_tokens=1)
        while refused.status_code == 200 and not many.done():
            refused = complete(client, max_tokens=1)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(refused.headers["retry-after"]) >= 1
        many.result()
    assert complete(client, max_tokens=1).status_code == 200


def test_an_answer_that_takes_too_long_ends_in_an_error(client: httpx.Client) -> None:
    late = complete(client, n=128, **LONG)
    assert late.status_code == 504
    assert late.json()["error"] == {
        "message": "the answer took longer than 1 s",
        "type": "server_error",
        "param": None,
        "code": "timeout",
    }
    fields = {"prompt": "the fox", "n": 128, "stream": True, **LONG}
    with client.stream("POST", "/v1/completions", json=fields) as response:
        assert response.status_code == 200
        *_, last = (line for line in response.iter_lines() if line)
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"
    wait_until(lambda: sessions() == [0, 0], "the end of all sessions")


def leave_a_stream(client: httpx.Client, fields: dict[str, object]) -> None:
    with client.stream("POST", "/v1/completions", json={**fields, "stream": True}) as response:
        assert next(response.iter_lines()).startswith("data: ")
        assert sessions()[0] > 0


def leave_before_the_answer(client: httpx.Client, fields: dict[str, object]) -> None:
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/completions", json=fields, timeout=httpx.Timeout(60, read=0.2))


@pytest.mark.parametrize("leave", [leave_a_stream, leave_before_the_answer])
def test_a_client_that_leaves_frees_its_sessions_at_once(
    client: httpx.Client, leave: Callable[[httpx.Client, dict[str, object]], None]
) -> None:
    leave(client, {"prompt": "the fox", "n": 100, "colllm": {"threshold": 0.2}, **LONG})
    left = time.monotonic()
    wait_until(lambda: sessions() == [0, 0], "the end of all sessions")
    assert time.monotonic() - left < 10  # half a second on a quiet machine
    assert complete(client, max_tokens=1).status_code == 200


def test_pages_of_other_sites_may_ask_where_they_are_named(narrow: str, url: str) -> None:
    def preflight(server: str, origin: str) -> httpx.Response:
        headers = {"origin": origin, "access-control-request-method": "POST"}
        return httpx.options(f"{server}/v1/completions", headers=headers)

    friend, stranger = (preflight(narrow, f"https://{name}.example") for name in ("friend", "stranger"))
    assert friend.headers["access-control-allow-origin"] == "https://friend.example"
    assert "access-control-allow-origin" not in stranger.headers
    assert "access-control-allow-origin" not in preflight(url, "https://friend.example").headers


def test_the_log_tells_of_requests_and_never_of_prompts(client: httpx.Client) -> None:
    request_id = f"request-{time.time_ns()}"
    fields = {"prompt": SECRET, "max_tokens": 3, "user": "somebody"}
    client.post("/v1/completions", json=fields, headers={"x-request-id": request_id})
    client.post("/v1/completions", json={**fields, SECRET: SECRET, "stop": {SECRET: 1}})
    client.post("/v1/chat/completions", json={"messages": [{"role": SECRET, "content": SECRET}]})
    client.post("/v1/completions", content=json.dumps(fields)[:-1], headers={"content-type": "application/json"})
    logs = Path(session_folder()) / "logs"

    def line() -> dict[str, Any] | None:
        for file in (logs / "serve").glob(f"*{APPLICATION}_Ingress*"):
            for text in file.read_text().splitlines():
                if request_id in text:
                    told: dict[str, Any] = json.loads(text)
                    return told
        return None

    wait_until(lambda: line() is not None, "the line in the log")
    told = line()
    assert told is not None
    expected = {
        "request_id": request_id,
        "method": "POST",
        "endpoint": "/v1/completions",
        "status": 200,
        "user": "somebody",
        "stream": False,
        "completion_tokens": 3,
    }
    assert {key: told[key] for key in expected} == expected
    assert told["duration_ms"] >= told["first_token_ms"] > 0
    for file in logs.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert SECRET.encode() not in content, file
            assert not any(key.encode() in content for key in KEYS), file


def session_folder() -> str:
    session: str = ray._private.worker._global_node.get_session_dir_path()
    return session
