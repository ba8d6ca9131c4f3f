"""Ctrl-C and SIGTERM: what a command had started ends, it says nothing, and its exit status tells the signal."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from colllm_ray.errors import StoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 10.0  # from a signal to the end, for whatever hangs


@contextmanager
def stopping_at_signals() -> Iterator[None]:
    """Stops the body at the first signal with a StoppedError; a second one, or a body that hangs, ends the process.

    After a signal the process ends here, with status 128 + its number, whatever the body has made of the error.
    """
    stopped: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        if stopped:
            _end(number)
        stopped.append(number)
        last = threading.Timer(GRACE_S, _end, (number,))
        last.daemon = True
        last.start()
        raise StoppedError(number)

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        if stopped:
            _end(stopped[0])
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int) -> NoReturn:
    """Takes along the processes that were started and are still there: nobody else ends them.

    Without what the interpreter does at its end: it would wait for threads, and tell of their errors.
    """
    import psutil

    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it has gone
            stream.flush()
    os._exit(128 + number)
