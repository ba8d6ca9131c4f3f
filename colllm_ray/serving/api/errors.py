"""Errors in OpenAI's shape."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from colllm_ray.errors import ColllmError
from colllm_ray.serving.api.requests import MAX_STOPS

logger = logging.getLogger("ray.serve")

# What OpenAI's API knows and a collaboration does not: the values that these may have change nothing.
NOT_SUPPORTED = frozenset("frequency_penalty presence_penalty logit_bias best_of suffix response_format".split())

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
        super().__init__(message)
        self.status = status
        self.headers = headers
        kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        self.body = ErrorBody(error=ErrorDetail(message=message, type=kind, param=param, code=code))

    def response(self) -> JSONResponse:
        return JSONResponse(self.body.model_dump(), self.status, self.headers)


def as_api_error(error: Exception) -> ApiError:
    """The same for any error; what is no fault of the request is told without details, which the log has."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ColllmError):
        return ApiError(HTTPStatus.BAD_REQUEST, str(error))
    logger.error("a request failed", exc_info=error)
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says how", code="internal_error")


def install(app: FastAPI) -> None:
    """Lets the app answer every error in this shape."""

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return _refused_fields(error).response()

    @app.exception_handler(ColllmError)
    async def _refused(_request: Request, error: ColllmError) -> JSONResponse:
        return as_api_error(error).response()

    @app.exception_handler(HTTPException)
    async def _no_route(_request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        return ApiError(status, f"{status.phrase}: {error.detail}", headers=dict(error.headers or {})).response()

    @app.exception_handler(Exception)
    async def _failed(_request: Request, error: Exception) -> JSONResponse:
        return as_api_error(error).response()


def _refused_fields(error: RequestValidationError) -> ApiError:
    """Names the fields, never what they held."""
    problems: dict[str, str] = {}
    for problem in error.errors():
        field, reason = _problem(tuple(map(str, problem["loc"][1:])), problem["type"], problem["msg"])
        problems.setdefault(field, reason)
    message = "; ".join(f"{field}: {reason}" if field else reason for field, reason in problems.items())
    code = "unsupported_parameter" if NOT_SUPPORTED & set(problems) else "invalid_value"
    return ApiError(HTTPStatus.BAD_REQUEST, message, param=next(iter(problems)) or None, code=code)


def _problem(path: tuple[str, ...], kind: str, message: str) -> tuple[str, str]:
    """The field, and what is wrong with it."""
    if kind == "json_invalid":
        return "", "the request is no JSON"
    if path[:1] and path[0] in NOT_SUPPORTED:
        return path[0], "is not supported; leave it out"
    for depth, name in enumerate(path, start=1):
        if name in OF_SEVERAL_KINDS and depth < len(path):  # the rest names the kinds that it is not
            return ".".join(path[:depth]), OF_SEVERAL_KINDS[name]
    if kind == "extra_forbidden":
        return ".".join(path), "is not known here; leave it out"
    return ".".join(path), message.removeprefix("Value error, ")
