"""The lab's ingress behind Serve's proxy: clients that hang up, and headers that no proxy should fail at."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import ray

from benchmarks.ingress_stall import FEW, stalls
from tests.commands import wait_until

QUESTION = [{"role": "user", "content": "What is a^3 * a^2 if a = 5?"}]
LONG = {"messages": QUESTION, "max_tokens": 200, "ignore_eos": True}
CLIENTS = 12
ALARMING = ("Traceback", " WARNING ", " ERROR ", '"levelname": "WARNING"', '"levelname": "ERROR"')


def logs() -> Path:
    return Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"


def served_by() -> list[Path]:
    """The logs of proxies, ingresses, routers and experts."""
    return [*(logs() / "serve").glob("replica_*"), *(logs() / "serve").glob("proxy_*")]


def logged(ids: list[str]) -> list[dict[str, Any]]:
    """The lines of the ingress about these requests."""
    files = (logs() / "serve").glob("*lab_Ingress*")
    texts = [text for file in files for text in file.read_text().splitlines() if any(one in text for one in ids)]
    return [json.loads(text) for text in texts]


def hang_up(url: str, request_id: str) -> None:
    headers = {"x-request-id": request_id}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json={**LONG, "stream": True}, headers=headers) as answer:
        for _, line in zip(range(7), answer.iter_lines(), strict=False):
            assert not line or line.startswith("data: ")


def give_up(url: str, request_id: str) -> None:
    headers = {"x-request-id": request_id}
    many = {**LONG, "n": 16, "temperature": 1.0}  # fewer than may wait: none is refused
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/chat/completions", json=many, headers=headers, timeout=httpx.Timeout(60, read=0.3))


@pytest.mark.parametrize("leave", [hang_up, give_up])
def test_a_client_that_leaves_is_a_line_in_the_log(leave: Callable[[str, str], None], url: str) -> None:
    ids = [f"leaves-{i}-{time.time_ns()}" for i in range(CLIENTS)]
    before = {file: file.stat().st_size for file in served_by()}
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda request_id: leave(url, request_id), ids))
    wait_until(lambda: len(logged(ids)) >= CLIENTS, "the lines in the log")
    assert httpx.get(f"{url}/health", timeout=60).status_code == 200  # all that went wrong is written by now
    assert sorted(line["request_id"] for line in logged(ids)) == sorted(ids)
    assert {line["status"] for line in logged(ids)} == {499}
    for file in served_by():
        written = file.read_bytes()[before.get(file, 0) :].decode(errors="replace")
        assert not any(word in written for word in ALARMING), f"{file}: {written[:3000]}"


def answer_to(url: str, *headers: bytes) -> tuple[int, bytes]:
    """Status and head of the answer to a request with headers that no client would send."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        lines = (b"GET /v1/models HTTP/1.1", b"Host: lab", b"Connection: close", *headers)
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        answer = b""
        while received := connection.recv(2**16):
            answer += received
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    "header",
    [
        b"x-request-id: \xff\xfe",
        b"x-request-id: " + b"x" * 30_000,
        b"x-session-id: \xff",
        b"serve-multiplexed-model-id: \xff",
        b"x-request-timeout-seconds: \xff",
        b"authorization: Bearer \xff\xfe",
        b"accept-encoding: \xff",
    ],
    ids=lambda header: header[:30].decode(errors="replace"),
)
def test_no_header_breaks_a_request(header: bytes, url: str) -> None:
    status, head = answer_to(url, header)
    assert status == 200
    assert len(head) < 1000


def test_a_request_keeps_its_id_or_is_given_one(url: str) -> None:
    given = httpx.get(f"{url}/v1/models", headers={"x-request-id": "mine-1"}).headers["x-request-id"]
    assert given == "mine-1"
    assert httpx.get(f"{url}/v1/models").headers["x-request-id"]


def test_head_asks_for_health(url: str) -> None:
    response = httpx.head(f"{url}/health", timeout=60)
    assert (response.status_code, response.content) == (200, b"")


def test_streams_go_on_beside_large_requests(url: str) -> None:
    """How well is for the benchmark to say."""
    rows, stall_ms = asyncio.run(stalls(url, FEW, times=1, tokens=20))
    assert [(row["body"], row.get("status")) for row in rows] == [*((kind, 400) for kind in FEW), ("none", None)]
    assert stall_ms >= 0
