"""What every request passes: size, key, and a line in the log; no prompt is ever in that."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from time import perf_counter

from fastapi import FastAPI, Request
from ray.exceptions import RayError
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from colllm_ray.config import ServingConfig
from colllm_ray.serving.api.bill import Bill
from colllm_ray.serving.api.errors import BODY, ApiError
from colllm_ray.serving.api.keys import KeyHashes, is_known
from colllm_ray.serving.api.requests import AnswerFields
from colllm_ray.serving.api.router_calls import Deadline
from colllm_ray.serving.metrics import IngressMetrics

logger = logging.getLogger("ray.serve")  # which Serve writes to the replica's file, with the request's id

LEFT = 499  # stands for a client that left before the end
NOTE = "colllm.note"  # in the scope of a request
OPEN_TO_ALL = ("/health", "/openapi.json", "/")
PAGE = "/page/"


@dataclass
class Note:
    """What the log tells of a request beyond method, path and status; `since`: when it came."""

    since: float
    model: str | None = None
    user: str | None = None
    stream: bool = False
    single: bool = False  # it wants one answer
    bill: Bill | None = None

    def answers(self, fields: AnswerFields, bill: Bill) -> None:
        """The request wants answers, whose costs come to this bill."""
        self.model, self.user, self.stream, self.bill = fields.model, fields.user, bool(fields.stream), bill
        self.single = fields.answers == 1

    def told(self) -> Iterator[tuple[str, object]]:
        for name in ("model", "user"):
            if (value := getattr(self, name)) is not None:
                yield name, value
        if self.bill is not None:
            yield "stream", self.stream
            yield "prompt_tokens", self.bill.prompt_tokens
            yield "completion_tokens", self.bill.tokens
            if self.bill.first_token_s is not None:
                yield "first_token_ms", round(1000 * self.bill.first_token_s, 1)


def note_of(request: Request) -> Note:
    note: Note = request.scope[NOTE]
    return note


def add(app: FastAPI, config: ServingConfig, keys: KeyHashes, metrics: IngressMetrics) -> None:
    """The last one added is passed first."""
    app.add_middleware(_Head)
    app.add_middleware(_Size, most=config.max_body_bytes, timeout_s=config.timeout_s)
    app.add_middleware(_Key, hashes=keys)
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
    app.add_middleware(_Log, metrics=metrics)


class _Log:
    """Writes a line when a request is over, and counts it."""

    def __init__(self, app: ASGIApp, metrics: IngressMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        note = scope[NOTE] = Note(since=perf_counter())
        sent, status = 0, LEFT

        async def watch(message: Message) -> None:
            nonlocal sent, status
            if message["type"] == "http.response.start":
                sent = message["status"]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                status = sent

        try:
            await self._app(scope, _hearing(receive), watch)
        except ClientDisconnect:
            raise
        except Exception:
            status = HTTPStatus.INTERNAL_SERVER_ERROR  # the answer that says so is sent further out
            raise
        finally:
            self._write(scope, note, status, perf_counter() - note.since)

    def _write(self, scope: Scope, note: Note, status: int, seconds: float) -> None:
        route = _below_prefix(scope, getattr(scope.get("route"), "path", "none"))
        fields = {
            "method": scope["method"],
            "endpoint": route,  # the record's `route` is Serve's own
            "status": status,
            "duration_ms": round(1000 * seconds, 1),
            **dict(note.told()),
        }
        logger.info("request", extra={**fields, "log_to_stderr": False})
        self._metrics.saw_request(route, status)
        bill = note.bill
        if bill is not None and bill.first_token_s is not None and note.single:
            self._metrics.saw_answer(bill.first_token_s, seconds, bill.tokens)


def _hearing(receive: Receive) -> Receive:
    """Hears a client leave also where Serve says it by the failure of its own call for what the client sends."""

    async def hear() -> Message:
        try:
            return await receive()
        except RayError:
            return {"type": "http.disconnect"}

    return hear


class _Head:
    """Answers HEAD as GET, but for the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("allow") == "GET":
                    headers["allow"] = "GET, HEAD"
            elif is_head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        inner = {**scope, "method": "GET"} if is_head else scope
        try:
            await self._app(inner, receive, answer)
        finally:
            if "route" in inner:
                scope["route"] = inner["route"]  # which the log names


class _Key:
    """Asks for an API key, where there are any."""

    def __init__(self, app: ASGIApp, hashes: KeyHashes) -> None:
        self._app = app
        self._hashes = hashes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._hashes and not _is_open(scope):
            kind, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not is_known(key.strip(), self._hashes):
                message = "the API key is wrong" if key else "an API key is needed: `Authorization: Bearer KEY`"
                refusal = ApiError(
                    HTTPStatus.UNAUTHORIZED, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"}
                )
                await refusal.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Size:
    """Takes a request's body in, as far as it is not too large."""

    def __init__(self, app: ASGIApp, most: int, timeout_s: float) -> None:
        self._app = app
        self._most = most
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        try:
            body = await Deadline(self._timeout_s).of(self._body(scope, receive))
        except ClientDisconnect:
            return
        except ApiError as refusal:
            await refusal.response()(scope, receive, send)
            return
        taken = False

        async def again() -> Message:
            nonlocal taken
            if taken:
                return await receive()
            taken = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Raises ApiError where it is too large, ClientDisconnect where its sender is gone."""
        length = Headers(scope=scope).get("content-length", "")
        told, taken = int(length) if length.isdigit() else 0, 0
        pieces: list[bytes] = []
        more = True
        while more and max(told, taken) <= self._most:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            pieces.append(message.get("body", b""))
            taken += len(pieces[-1])
            more = message.get("more_body", False)
        if max(told, taken) > self._most:
            most = f"a request has at most {self._most} bytes"
            raise ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, most, param=BODY, code="request_too_large")
        return b"".join(pieces)


def _is_open(scope: Scope) -> bool:
    path = _below_prefix(scope, scope["path"])
    return path in OPEN_TO_ALL or path.startswith(PAGE)


def _below_prefix(scope: Scope, path: str) -> str:
    """The path without the route prefix of the Serve application."""
    return path.removeprefix(scope.get("root_path", ""))
