"""Fields of messages, checked: what types alone do not promise, on both sides of the wire."""

from __future__ import annotations

from typing import get_args

from colllm_ray.engine.messages import More

MAX_NAME = 200  # characters
DIGEST = 32  # bytes of a nonce or a mac


class WireError(Exception):
    """Bytes or fields that are no message; the text says what was wrong and never quotes a token."""


def name_of(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise WireError(f"session or lease: must be a printable name of 1 to {MAX_NAME} characters")
    return value


def digest_of(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != DIGEST:
        raise WireError(f"nonce or mac: must be {DIGEST} bytes")
    return value


# `type(...) is int`, because a bool is an int for isinstance.


def count_of(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise WireError(f"{what}: must be an integer from 0 to 2^31 - 1")
    return value


def number_of(value: object, what: str) -> float:
    if type(value) not in (float, int) or value != value:
        raise WireError(f"{what}: must be a number")
    return value  # type: ignore[return-value]


def array_of(value: object, what: str) -> tuple[object, ...]:
    if type(value) is not tuple:
        raise WireError(f"{what}: must be an array")
    return value


def numbers_of(value: object, what: str) -> tuple[float, ...]:
    return tuple(number_of(each, what) for each in array_of(value, what))


def tokens_of(value: object) -> tuple[int, ...]:
    tokens = array_of(value, "tokens")
    # Three passes in C over what may be thousands.
    if not set(map(type, tokens)) <= {int} or (tokens and not 0 <= min(tokens) <= max(tokens) < 2**31):  # type: ignore[type-var, operator]
        raise WireError("tokens: must be integers from 0 to 2^31 - 1")
    return tokens  # type: ignore[return-value]


def more_of(value: object) -> More:
    if value not in get_args(More):
        raise WireError(f"more: must be one of {', '.join(get_args(More))}")
    return value  # type: ignore[return-value]


def distribution_of(value: object) -> bytes | None:
    if value is not None and (not isinstance(value, bytes) or len(value) % 4):
        raise WireError("distribution: must be bytes of float32")
    return value
