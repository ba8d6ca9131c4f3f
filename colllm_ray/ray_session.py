"""A Ray to run in: the cluster at an address, or one of this machine's own for as long as it is needed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.data import DataContext

from colllm_ray.config import Collaboration
from colllm_ray.errors import ColllmError


@contextmanager
def ray_session(address: str | None, collaboration: Collaboration) -> Iterator[None]:
    """Connects to the Ray at `address`, or starts a local one; leaves or stops it in the end.

    CPUs are Ray's book-keeping: a local Ray has all that the collaboration reserves, also on a machine with fewer.
    Raises ColllmError where no Ray answers at the address.
    """
    if address is not None:
        with joined_cluster(address):
            yield
        return
    # Nobody takes machines away from a local one; a process less for each training.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    cpus = max(collaboration.reserved_cpus, os.cpu_count() or 1)
    with _session("local", num_cpus=cpus, include_dashboard=False):
        yield


@contextmanager
def joined_cluster(address: str) -> Iterator[None]:
    """Connects to the Ray at `address`, and leaves it in the end. Raises ColllmError where none answers."""
    with _session(address):
        yield


@contextmanager
def _session(address: str, **options: Any) -> Iterator[None]:
    # Ray Train takes one report in at each poll of its controller, which by default comes every two seconds.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
    # A proxy that busy CPUs hold up for the usual five seconds would be killed, and Serve's start would fail.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.WARNING, **options)
    except ConnectionError as error:
        raise ColllmError(
            f"{address}: {error}; a cluster that `ray start` has started wants its token: set RAY_AUTH_MODE=token"
        ) from error
    for name in ("ray.data", "ray.serve"):  # each stage shows its own progress
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # that its bars are off is meant
    DataContext.get_current().enable_progress_bars = False
    try:
        yield
    finally:
        ray.shutdown()
