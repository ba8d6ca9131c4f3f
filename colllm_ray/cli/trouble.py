"""Errors that the user can put right, in one line, whoever raised them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from platformdirs import user_cache_path

from colllm_ray.errors import ColllmError, raised_by_user


def what_to_mend(error: BaseException) -> str | None:
    """What is wrong and what would be right; None for a fault of our own, whose traceback should be seen.

    Of an error in a Ray worker, what was raised there counts.
    """
    for cause in _causes(error):
        if isinstance(cause, ColllmError):
            return _one_line(str(cause))
        if type(cause).__module__ == "ray.exceptions" and (raised := raised_by_user(str(cause))) is not None:
            return _one_line(raised)
    for cause in _causes(error):
        if isinstance(cause, OSError):
            return _of_the_system(cause)
        if type(cause).__module__.partition(".")[0] == "botocore":  # of S3, where it is no OSError
            return _one_line(f"the storage cannot be used: {cause}")
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those that it comes from; in the place of one of Ray, what was raised in the worker."""
    waiting, seen = [error], list[BaseException]()
    while waiting:
        one = waiting.pop(0)
        if any(one is other for other in seen):
            continue
        seen.append(one)
        if isinstance(raised := getattr(one, "cause", None), BaseException):
            waiting.append(raised)
        else:
            yield one
        if one.__cause__ is not None:
            waiting.append(one.__cause__)


def _of_the_system(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return _one_line(reason)
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else str(error.filename)
    return _one_line(f"{path}: {reason}{_named_by(Path(path))}")


def _named_by(path: Path) -> str:
    """Which variables choose the folder that a path lies in, as far as no argument does."""
    if path.is_relative_to(user_cache_path("colllm_ray")):
        return "; $XDG_CACHE_HOME names the folder of caches, without it $HOME: set one to a folder that you may write"
    if path.is_relative_to(home := Path.home()) and path != home and path.relative_to(home).parts[0].startswith("."):
        return "; it is in $HOME: set that to a folder that you may write"
    return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
