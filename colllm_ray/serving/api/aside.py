"""Work that the event loop must not wait for, as all answers come through it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

SMALL = 4096  # characters to encode, or entries to write: a few milliseconds

_threads = ThreadPoolExecutor(2, thread_name_prefix="aside")  # few: the streams want the processors, too


async def aside(size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function returns; called in a thread where its work is of more than a small size."""
    if size <= SMALL:
        return function(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(function, *args, **kwargs))
