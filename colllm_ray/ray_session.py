"""A Ray to run in: the cluster at an address, or one of this machine's own for as long as it is needed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.data import DataContext

# CPUs are Ray's book-keeping, not a measure of speed: a small machine still holds several small models and the
# workers of a training job, a share of a core each.
LEAST_CPUS = 8


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Connects to the Ray at `address`, or starts a local one; leaves or stops it in the end."""
    local = {"num_cpus": max(LEAST_CPUS, os.cpu_count() or 1), "include_dashboard": False}
    ray.init(
        address=address or "local",
        log_to_driver=False,
        logging_level=logging.WARNING,
        **({} if address else local),
    )
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # each stage shows its own progress
    DataContext.get_current().enable_progress_bars = False
    try:
        yield
    finally:
        ray.shutdown()
