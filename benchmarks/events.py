"""A client of streamed answers that costs little: it keeps bytes and times, and reads them when the answer is there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Streamed:
    """What came of one answer, and when, in seconds since it was asked for."""

    status: int = 0
    events: list[tuple[float, Any]] = field(default_factory=list)  # parsed; without `[DONE]`
    is_done: bool = False  # `[DONE]` came

    @property
    def tokens(self) -> list[int]:
        return [token["token"] for _, trace in self.traces for token in trace]

    @property
    def traces(self) -> list[tuple[float, list[Any]]]:
        """When each chunk that has tokens came, and the tokens."""
        traces = []
        for at, event in self.events:
            for choice in event.get("choices", ()):
                if trace := (choice.get("colllm") or {}).get("trace"):
                    traces.append((at, trace))
        return traces

    @property
    def text(self) -> str:
        """Of a chat."""
        deltas = [choice["delta"] for _, event in self.events for choice in event.get("choices", ())]
        return "".join(delta.get("content") or "" for delta in deltas)

    @property
    def lost_experts(self) -> list[str]:
        """Those that the answer had to do without."""
        choices = [choice for _, event in self.events for choice in event.get("choices", ())]
        return [name for choice in choices for name in (choice.get("colllm") or {}).get("lost") or ()]

    @property
    def error(self) -> str | None:
        return next((event["error"]["message"] for _, event in self.events if "error" in event), None)


async def stream(url: str, path: str, body: dict[str, object], hang_up_after: int | None = None) -> Streamed:
    """Asks on a connection of its own; hangs up once so many events are there, where that is asked for."""
    address = urlsplit(url)
    begin = perf_counter()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    arrived: list[tuple[float, bytes]] = []
    try:
        payload = json.dumps({**body, "stream": True}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n".encode() + payload)
        status = int((await reader.readline()).split()[1])
        while await reader.readline() not in (b"\r\n", b""):
            pass
        while line := await reader.readline():  # of the events, and of the sizes of HTTP's chunks between them
            if line.startswith((b"data: ", b"{")):
                arrived.append((perf_counter() - begin, line))
                if hang_up_after is not None and len(arrived) >= hang_up_after:
                    break
    finally:
        writer.transport.abort() if hang_up_after is not None else writer.close()
    return _read(status, arrived)


def _read(status: int, arrived: Sequence[tuple[float, bytes]]) -> Streamed:
    streamed = Streamed(status)
    for at, line in arrived:
        data = line.removeprefix(b"data: ").strip()
        if data == b"[DONE]":
            streamed.is_done = True
        else:
            streamed.events.append((at, json.loads(data)))
    return streamed
