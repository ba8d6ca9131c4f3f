"""The bodies of requests: JSON, which is read only as far as a request can be that is answered.

Whatever a body holds, reading it never keeps the event loop for long: what would is counted before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from email.message import Message as Header
from http import HTTPStatus
from typing import Any, cast

from fastapi import Request as HttpRequest
from fastapi import Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from pydantic_core import from_json

from colllm_ray.serving.api.bounds import bounded
from colllm_ray.serving.api.errors import BODY, TOO_LONG, WRONG, ApiError, refused, refused_fields
from colllm_ray.serving.api.request import MOST_UNKNOWN, Request, UnknownNames, UnknownNamesError, shown
from colllm_ray.serving.api.requests import MAX_TOKENS

MOST_OBJECTS = 2**14  # and lists
MOST_VALUES = MAX_TOKENS + 2**10  # of all kinds
MOST_NAMES = 2**15  # of fields
CHUNK = 2**16  # bytes that are counted at once


@dataclass
class Count:
    """What a body holds so far: chunk by chunk, without reading it as JSON."""

    objects: int = 0  # and lists
    names: int = 0
    commas: int = 0
    in_text: bool = False

    @property
    def excess(self) -> str | None:
        """What there is too much of."""
        for count, most, what in (
            (self.objects, MOST_OBJECTS, "objects and lists"),
            (self.names, MOST_NAMES, "fields"),
            (self.objects + self.commas, MOST_VALUES, "values"),
        ):
            if count > most:
                return f"more than {most} {what}"
        return None

    def add(self, chunk: bytes) -> None:
        """`chunk` ends with no part of an escape."""
        pieces = chunk.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = b"".join(pieces[self.in_text :: 2])
        self.in_text ^= len(pieces) % 2 == 0
        self.objects += outside.count(b"{") + outside.count(b"[")
        self.names += outside.count(b":")
        self.commas += outside.count(b",")


async def read(request: HttpRequest, model: type[Request], context: int) -> Request:
    """The body as the model has it. Raises ApiError."""
    _check_type(request.headers.get("content-type", ""))
    content = await request.body()
    count = Count()
    for begin, end in chunks(content):
        count.add(content[begin:end])
        if count.excess is not None:
            raise _too_much(content[:end], count.excess, model, context)
        await asyncio.sleep(0)
    try:
        return model.model_validate_json(content, context=UnknownNames())
    except UnknownNamesError as error:
        raise refused(str(error), error.names[0]) from None
    except ValidationError as error:
        raise refused_fields(error.errors(include_url=False, include_input=False), context) from None


def reading_route(context: int, answers: int) -> type[APIRoute]:
    """Routes that read bodies so; the bounds are those of `bounded`."""

    class ReadingRoute(APIRoute):
        def get_route_handler(self) -> Callable[[HttpRequest], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()
            if self.body_field is None:
                return handle
            model = bounded(cast(type[Request], self.body_field.field_info.annotation), context, answers)

            async def read_and_handle(request: HttpRequest) -> Response:
                body = await read(request, model, context)
                return await handle(_Read(request, body))

            return read_and_handle

    return ReadingRoute


class _Read(HttpRequest):
    """A request whose body has been read."""

    def __init__(self, request: HttpRequest, body: Request) -> None:
        super().__init__(request.scope, request.receive)
        self._model = body

    async def body(self) -> bytes:
        return b"{}"  # there is one: FastAPI asks for it as JSON then

    async def json(self) -> Request:
        return self._model


def _check_type(content_type: str) -> None:
    header = Header()
    header["content-type"] = content_type
    kind, charset = header.get_content_type(), str(header.get_param("charset", "utf-8")).lower()
    is_json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
    if not content_type or not is_json or charset not in ("utf-8", "utf8", "us-ascii"):
        found = repr(shown(content_type)) if content_type else "none"
        message = f"the content type must be application/json, in UTF-8; it is {found}"
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message, param="content-type", code="unsupported_media_type")


def chunks(content: bytes, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    """Where chunks of such a size begin and end, none of them within an escape."""
    begin = 0
    while begin < len(content):
        chunk = content[begin : begin + size]
        backslashes = len(chunk) - len(chunk.rstrip(b"\\"))
        cuts_escape = backslashes % 2 and begin + size < len(content)
        end = begin + len(chunk) - (1 if cuts_escape else 0)
        yield begin, end
        begin = end


def _too_much(beginning: bytes, excess: str, model: type[Request], context: int) -> ApiError:
    """The refusal of a body that begins so; it names the field, or the unknown ones, in which the excess is."""
    try:
        fields = from_json(beginning, allow_partial=True, cache_strings=False)
    except ValueError:
        return refused("the request is no JSON", BODY)
    names = list(fields) if isinstance(fields, dict) else []
    unknown = [shown(name) for name in names if name not in model.model_fields]
    if len(unknown) >= MOST_UNKNOWN:
        return refused(str(UnknownNamesError(unknown[:MOST_UNKNOWN])), unknown[0])
    field = shown(names[-1]) if names else BODY
    is_long = field in ("messages", "prompt") and context < MOST_OBJECTS
    limit = f"; the models' context is {context} tokens" if is_long else ""
    return refused(f"{field}: holds {excess}{limit}", field, TOO_LONG if is_long else WRONG)
