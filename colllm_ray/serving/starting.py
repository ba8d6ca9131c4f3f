"""What the start of an application waits for, told while it does, and why it failed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from colllm_ray.errors import ColllmError, reason_in
from colllm_ray.serving.deployed import deployed
from colllm_ray.serving.placement.nodes import node_rooms
from colllm_ray.serving.placement.waiting import demands, why_waiting

EVERY_S = 10.0
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")


@contextmanager
def telling_of_start(application: str) -> Iterator[None]:
    """Says on standard error, for as long as the body runs, which copies do not run yet; of one without a node, why."""
    console = Console(stderr=True)
    over = threading.Event()

    def tell() -> None:
        told = None
        while not over.wait(EVERY_S):
            missing = _missing(application)
            if missing and missing != told:
                told = missing
                console.print(f"start {application}: {missing}", highlight=False, markup=False, soft_wrap=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _missing(application: str) -> str:
    """Deployments of which not all copies run."""
    rooms, waiting = node_rooms(), demands()
    incomplete = (one for one in deployed() if one.application == application and not one.is_whole)
    return "; ".join(
        ", ".join(filter(None, [f"{one.name} {len(one.running)} of {one.wanted}", why_waiting(one, rooms, waiting)]))
        for one in incomplete
    )


@contextmanager
def one_line_of_failure(application: str) -> Iterator[None]:
    """Raises ColllmError with the reason where the application cannot be started in the body."""
    try:
        yield
    except RuntimeError as error:  # Serve's, with the tracebacks of all that failed
        failed = [one for one in deployed() if one.application == application and one.status in FAILED]
        reasons = dict.fromkeys(f"{one.name}: {reason_in(one.message)}" for one in failed) or [reason_in(str(error))]
        raise ColllmError(f"{application} cannot be started: {'; '.join(reasons)}") from error
