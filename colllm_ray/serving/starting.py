"""What the start of an application waits for, told while it does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from colllm_ray.progress import repeating
from colllm_ray.serving.deployed import deployed
from colllm_ray.serving.placement.nodes import node_rooms
from colllm_ray.serving.placement.waiting import demands, why_waiting

EVERY_S = 10.0
AGAIN_S = 20.0  # where nothing has changed


@contextmanager
def telling_of_start(application: str) -> Iterator[None]:
    """Says on standard error, for as long as the body runs, which copies do not run yet; of one without a node, why.

    Whenever that changes, and every half a minute.
    """
    console = Console(stderr=True)
    told, told_at = "", 0.0

    def tell() -> None:
        nonlocal told, told_at
        missing = _missing(application)
        if missing and (missing != told or time.monotonic() - told_at >= AGAIN_S):
            told, told_at = missing, time.monotonic()
            console.print(f"start {application}: {missing}", highlight=False, markup=False, soft_wrap=True)

    with repeating(tell, EVERY_S):
        yield


def _missing(application: str) -> str:
    """Deployments of which not all copies run."""
    rooms, waiting = node_rooms(), demands()
    incomplete = (one for one in deployed() if one.application == application and not one.is_whole)
    return "; ".join(
        ", ".join(filter(None, [f"{one.name} {len(one.running)} of {one.wanted}", why_waiting(one, rooms, waiting)]))
        for one in incomplete
    )
