"""Calls of the router, with a time limit and errors that a client can be told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable
from contextvars import Context
from http import HTTPStatus
from typing import Any, TypeVar

import grpc
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator

from colllm_ray.decoding.model_client import ModelFailedError
from colllm_ray.errors import ColllmError
from colllm_ray.serving.api.errors import ApiError
from colllm_ray.serving.cancelled import is_cancelled

logger = logging.getLogger("ray.serve")
T = TypeVar("T")


class Deadline:
    """When a request must be over."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._at = asyncio.get_running_loop().time() + seconds

    async def of(self, awaitable: Awaitable[T]) -> T:
        """What is awaited, where it comes in time. Raises ApiError."""
        try:
            async with asyncio.timeout_at(self._at):
                return await awaitable
        except TimeoutError as error:
            message = f"the answer took longer than {self._seconds:g} s"
            raise ApiError(HTTPStatus.GATEWAY_TIMEOUT, message, code="timeout") from error


def asked(method: DeploymentHandle, *arguments: object) -> Any:
    """Calls a method of the router, outside of the HTTP request that is being answered.

    Of calls inside, Serve ends those of a client that leaves by itself, and that looks as if the router had stopped:
    whoever asks ends his own.
    """
    return Context().run(method.remote, *arguments)


async def answered(response: DeploymentResponse, deadline: Deadline) -> object:
    """What the router answers; a caller that leaves ends its work. Raises ApiError or another ColllmError."""
    try:
        return await deadline.of(_told(response))
    finally:
        response.cancel()


async def streamed(
    stream: DeploymentResponseGenerator,
    deadline: Deadline,
    first_s: float | None = None,
    silence_s: float | None = None,
) -> AsyncGenerator[object, None]:
    """What the router says, item by item; a caller that closes this ends its work. Raises as `answered` does.

    Raises RouterSilentError where nothing comes for `first_s`, and then for `silence_s`.
    """
    nothing, within_s = object(), first_s
    try:
        while (item := await deadline.of(_told(_soon(anext(stream, nothing), within_s)))) is not nothing:
            yield item
            within_s = silence_s
    finally:
        stream.cancel()


async def _soon(awaitable: Awaitable[T], silence_s: float | None) -> T:
    try:
        async with asyncio.timeout(silence_s):
            return await awaitable
    except TimeoutError:
        raise RouterSilentError(f"no router has said anything for {silence_s:g} s") from None


async def _told(awaitable: Awaitable[T]) -> T:
    try:
        return await awaitable
    except asyncio.CancelledError:
        if is_cancelled():  # by our own caller, or its deadline
            raise
        raise RouterLostError("the router that wrote it was stopped") from None
    except ColllmError:
        raise
    except ModelFailedError as error:
        raise unavailable(f"a model could not go on: {error}", "model_failed") from error
    except (RayError, RayServeException, grpc.RpcError) as error:
        logger.warning("a call of the router failed: %s", type(error).__name__)
        raise RouterLostError("the router that wrote it was lost, or none is free") from error


class RouterLostError(ApiError):
    """A call that another router may take up."""

    def __init__(self, message: str) -> None:
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, message, code="router_lost")


class RouterSilentError(RouterLostError):
    """A router that hangs, or none that has room."""


def unavailable(message: str, code: str, headers: dict[str, str] | None = None) -> ApiError:
    """What a request is told that no router, or no model, can go on with."""
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, code=code, headers=headers)
