"""Who ended a call: Serve says that a replica stops with the same error as asyncio that somebody is cancelled."""

from __future__ import annotations

import asyncio


def is_cancelled() -> bool:
    """Whether the running task was cancelled; where not, a CancelledError that it catches is Serve's."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
