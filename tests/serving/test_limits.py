"""What a server refuses, and what becomes of clients that leave: a second application, with narrow limits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray import serve

from colllm_ray.config import ServingConfig
from colllm_ray.decoding.team_spec import TeamSpec
from colllm_ray.serving.api.keys import take_keys
from colllm_ray.serving.application import http_application
from tests.collaborations import random_collaboration
from tests.commands import wait_until

ModelFolder = Callable[[str, int], Path]
APPLICATION = "narrow"
KEYS = ("one-good-key", "another-good-key")
SECRET = "xylophone zebra"  # a prompt that no log may hold
LONG = {"max_tokens": 50, "ignore_eos": True, "temperature": 1.0}
MANY = {"prompt": ["the fox"] * 4, "n": 128, **LONG}  # work for half a minute, two at a time
BODY = 3000  # bytes


@contextmanager
def serving_beside(url: str, name: str, model_folder: ModelFolder, **config: object) -> Iterator[str]:
    """A small collaboration in the Serve of `url`, at the URL given."""
    serving = ServingConfig.model_validate(config)
    trained = random_collaboration(model_folder, "llama", ["qwen3"])
    trained = replace(trained, collaboration=trained.collaboration.model_copy(update={"serving": serving}))
    application = http_application(TeamSpec.of(trained), take_keys(serving.api_keys))
    serve.run(application, name=name, route_prefix=f"/{name}")
    try:
        yield f"{url}/{name}"
    finally:
        serve.delete(name)


@pytest.fixture(scope="module")
def narrow(url: str, model_folder: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("\n".join(KEYS))
    limits = {"max_answers": 2, "max_waiting": 600, "max_body_bytes": BODY}
    sites = ("https://friend.example",)
    with serving_beside(url, APPLICATION, model_folder, api_keys=str(keys), cors_origins=sites, **limits) as narrow:
        yield narrow


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
    with client.stream("POST", "/v1/completions", json={**MANY, "stream": True}) as response:
        lines = response.iter_lines()  # which hangs up when it goes
        assert next(lines).startswith("data: ")
        refused = complete(client, **MANY)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(refused.headers["retry-after"]) >= 1
        assert complete(client, prompt=["the fox"] * 5, n=128).status_code == 400  # it never could be met
    wait_until(lambda: complete(client, max_tokens=1).status_code == 200, "room again")


def test_an_answer_that_takes_too_long_ends_in_an_error(url: str, model_folder: ModelFolder) -> None:
    body = {"prompt": "the fox", "n": 128, **LONG}
    with serving_beside(url, "hasty", model_folder, max_answers=1, timeout_s=1.0) as hasty:
        late = httpx.post(f"{hasty}/v1/completions", json=body, timeout=60)
        assert late.status_code == 504
        error = {"message": "the answer took longer than 1 s", "type": "server_error", "param": None, "code": "timeout"}
        assert late.json()["error"] == error

        def last_event() -> str | None:
            """None where not even a first token came in time."""
            with httpx.stream("POST", f"{hasty}/v1/completions", json={**body, "stream": True}) as response:
                return [line for line in response.iter_lines() if line][-1] if response.status_code == 200 else None

        wait_until(lambda: (event := last_event()) is not None and json.loads(event[6:])["error"] == error, "an error")
        assert httpx.get(f"{hasty}/health").json() == {"status": "ok"}


def leave_a_stream(client: httpx.Client, fields: dict[str, object]) -> None:
    with client.stream("POST", "/v1/completions", json={**fields, "stream": True}) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        assert sessions()[0] > 0


def leave_before_the_answer(client: httpx.Client, fields: dict[str, object]) -> None:
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/completions", json=fields, timeout=httpx.Timeout(60, read=0.2))


@pytest.mark.parametrize("leave", [leave_a_stream, leave_before_the_answer])
def test_a_client_that_leaves_frees_its_sessions_at_once(
    client: httpx.Client, leave: Callable[[httpx.Client, dict[str, object]], None]
) -> None:
    """They would be busy for half a minute."""
    leave(client, {**MANY, "colllm": {"threshold": 0.2}})
    left = time.monotonic()
    wait_until(lambda: sessions() == [0, 0], "the end of all sessions")
    assert time.monotonic() - left < 10  # half a second on a quiet machine
    assert complete(client, max_tokens=1).status_code == 200


def test_pages_of_other_sites_may_ask_where_they_are_named(narrow: str, url: str) -> None:
    def preflight(server: str, origin: str) -> httpx.Response:
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "x-stainless-os"}
        return httpx.options(f"{server}/v1/completions", headers={"origin": origin, **asked})

    friend, stranger = (preflight(narrow, f"https://{name}.example") for name in ("friend", "stranger"))
    assert friend.status_code == 200
    assert friend.headers["access-control-allow-origin"] == "https://friend.example"
    assert "access-control-allow-origin" not in stranger.headers
    assert "access-control-allow-origin" not in preflight(url, "https://friend.example").headers


def test_the_log_tells_of_requests_and_never_of_prompts(client: httpx.Client) -> None:
    ids = [f"request-{i}-{time.time_ns()}" for i in range(4)]
    fields = {"prompt": SECRET, "max_tokens": 3, "user": "somebody"}
    for request_id, path, content in (
        (ids[0], "completions", json.dumps(fields)),
        (ids[1], "completions", json.dumps({**fields, SECRET: SECRET, "stop": {SECRET: 1}})),
        (ids[2], "chat/completions", json.dumps({"messages": [{"role": SECRET, "content": SECRET}]})),
        (ids[3], "completions", json.dumps(fields)[:-1]),
    ):
        headers = {"content-type": "application/json", "x-request-id": request_id}
        client.post(f"/v1/{path}", content=content, headers=headers)
    logs = Path(session_folder()) / "logs"

    def lines() -> list[dict[str, Any]]:
        """Those of the four requests."""
        files = (logs / "serve").glob(f"*{APPLICATION}_Ingress*")
        texts = (text for file in files for text in file.read_text().splitlines())
        told = [json.loads(text) for text in texts if any(request_id in text for request_id in ids)]
        return sorted(told, key=lambda line: ids.index(line["request_id"]))

    wait_until(lambda: len(lines()) == 4, "the lines in the log")
    told, *refused = lines()
    assert [line["status"] for line in refused] == [400] * 3
    expected = {
        "request_id": ids[0],
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
            written = file.read_bytes()
            assert SECRET.encode() not in written, file
            assert not any(key.encode() in written for key in KEYS), file


def session_folder() -> str:
    session: str = ray._private.worker._global_node.get_session_dir_path()
    return session
