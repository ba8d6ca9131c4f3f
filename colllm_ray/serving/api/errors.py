"""Errors in OpenAI's shape."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException

from colllm_ray.errors import ColllmError
from colllm_ray.serving.api.neutral import NOT_SUPPORTED, NOT_SUPPORTED_IN_TURNS
from colllm_ray.serving.api.request import shown
from colllm_ray.serving.api.requests import MAX_STOPS

logger = logging.getLogger("ray.serve")

BODY = "body"  # the `param` where no field is at fault, but all of a request
WRONG, UNSUPPORTED, TOO_LONG = "invalid_value", "unsupported_parameter", "context_length_exceeded"
MOST_PROBLEMS = 8  # that are told of one request
LONGEST = 2000  # characters of a message

OF_SEVERAL_KINDS = {
    "prompt": "must be a text, token ids, or a list of the one or the other; none may be empty",
    "stop": f"must be a text, or up to {MAX_STOPS}; none may be empty",
    "content": "must be a text, or a list of parts with `type: text`",
}


class ErrorDetail(BaseModel):
    """type: whose fault it was; param: the field at fault; code: for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """Every answer that is none, and the event with which a stream breaks off."""

    error: ErrorDetail


class ApiError(ColllmError):
    """A request that is not answered, and why."""

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        message = message if len(message) <= LONGEST else f"{message[:LONGEST]}.."
        super().__init__(message)
        self.status = status
        self.headers = headers
        kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        self.body = ErrorBody(error=ErrorDetail(message=message, type=kind, param=param, code=code))

    def response(self) -> JSONResponse:
        return JSONResponse(self.body.model_dump(), self.status, self.headers)


def refused(message: str, param: str, code: str = WRONG) -> ApiError:
    """The refusal of a request for what is in one of its fields."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, param=param, code=code)


@contextmanager
def naming(param: str) -> Iterator[None]:
    """Lets what the body refuses name the field that it is about."""
    try:
        yield
    except ApiError:
        raise
    except ColllmError as error:
        raise refused(str(error), param) from error


def as_api_error(error: Exception) -> ApiError:
    """The same for any error; what is no fault of the request is told without details, which the log has."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ColllmError):
        return refused(str(error), BODY)
    logger.error("a request failed", exc_info=error)
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says how", code="internal_error")


def install(app: FastAPI) -> None:
    """Lets the app answer every error in this shape."""

    @app.exception_handler(ColllmError)
    async def _refused(_request: Request, error: ColllmError) -> JSONResponse:
        return as_api_error(error).response()

    @app.exception_handler(HTTPException)
    async def _no_route(_request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        message = status.phrase if error.detail == status.phrase else f"{status.phrase}: {error.detail}"
        return ApiError(status, message, headers=dict(error.headers or {})).response()

    @app.exception_handler(Exception)
    async def _failed(_request: Request, error: Exception) -> JSONResponse:
        return as_api_error(error).response()


def refused_fields(errors: Sequence[ErrorDetails], context: int) -> ApiError:
    """The refusal of a request whose fields are wrong: it names them, never what they held.

    context: of the models, in tokens.
    """
    problems: dict[str, str] = {}
    codes: dict[str, str] = {}
    for error in errors:
        path = tuple(shown(str(part)) for part in error["loc"])
        field, reason, code = _problem(path, error, context)
        if field not in problems or error["type"] in ("too_long", "string_too_long"):  # says more than all others
            problems[field], codes[field] = reason, code
    told = list(problems.items())[:MOST_PROBLEMS]
    message = "; ".join(f"{field}: {reason}" if field != BODY else reason for field, reason in told)
    code = next((one for one in codes.values() if one != WRONG), WRONG)
    return ApiError(HTTPStatus.BAD_REQUEST, message, param=told[0][0], code=code)


def _problem(path: tuple[str, ...], error: ErrorDetails, context: int) -> tuple[str, str, str]:
    """The field, what is wrong with it, and the code of that."""
    kind, message, details = error["type"], error["msg"], error.get("ctx", {})
    if kind == "json_invalid":
        return BODY, f"the request is no JSON: {details['error']}", WRONG
    if not path and kind == "model_type":
        return BODY, "the request is no JSON object", WRONG
    if kind == "wrong":
        field = ".".join((*path, details["param"]))
        return field, message, WRONG
    if path[0] == "messages" and path[2:] and path[2] in NOT_SUPPORTED_IN_TURNS:
        taken = NOT_SUPPORTED_IN_TURNS[path[2]]
        return ".".join(path[:3]), f"is not supported; leave it out, or give {taken}", UNSUPPORTED
    if kind == "none_required" and (len(path) == 1 or path[0] not in NOT_SUPPORTED):
        return ".".join(path), "is not known here; leave it out", WRONG
    if path[0] in NOT_SUPPORTED:
        return path[0], f"is not supported; leave it out, or give {NOT_SUPPORTED[path[0]]}", UNSUPPORTED
    for depth, name in enumerate(path, start=1):
        if name in OF_SEVERAL_KINDS and depth < len(path):  # the rest names the kinds that it is not
            path = path[:depth]
            message = message if kind == "string_too_long" else OF_SEVERAL_KINDS[name]
            break
    if kind == "too_long" and details["max_length"] == context:
        unit = "turns" if path[-1] == "messages" else "tokens"
        return ".".join(path), f"has {details['actual_length']} {unit}, the models' context is {context}", TOO_LONG
    if kind == "too_long":
        message = f"has {details['actual_length']} entries; at most {details['max_length']} are taken"
    return ".".join(path), message, WRONG
