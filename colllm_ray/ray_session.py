"""A Ray to run in: the cluster at an address, or one of this machine's own for as long as it is needed."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.data import DataContext

from colllm_ray.config import Collaboration
from colllm_ray.errors import ColllmError
from colllm_ray.ray_address import LOCAL, reachable_cluster
from colllm_ray.ray_processes import RayProcesses
from colllm_ray.ray_sayings import leave_out_alarms


@contextmanager
def ray_session(address: str | None, collaboration: Collaboration) -> Iterator[None]:
    """Connects to the Ray at `address`, or starts a local one; leaves or stops it in the end.

    CPUs are Ray's book-keeping: a local Ray has all that the collaboration reserves, also on a machine with fewer.
    Raises ColllmError where no Ray answers at the address, or none can be started.
    """
    if address is not None:
        with joined_cluster(address):
            yield
        return
    # Nobody takes machines away from a local one; a process less for each training.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    _have_token()
    cpus = max(collaboration.reserved_cpus, os.cpu_count() or 1)
    processes = RayProcesses()
    with ExitStack() as leaving:
        leaving.callback(processes.end)
        leaving.enter_context(_session(_start(cpus)))
        processes.have_started()
        leaving.callback(processes.are_to_end)
        yield


@contextmanager
def joined_cluster(address: str) -> Iterator[None]:
    """Connects to the Ray at `address`, and leaves it in the end. Raises ColllmError where none answers."""
    found = reachable_cluster(address)

    def join(options: dict[str, Any]) -> None:
        try:
            ray.init(found, **options)
        except (ConnectionError, ray.exceptions.AuthenticationError) as error:
            raise ColllmError(
                f"{address}: {error}; a cluster that `ray start` has started wants its token: set RAY_AUTH_MODE=token"
            ) from error

    with _session(join):
        yield


def _start(cpus: int) -> Callable[[dict[str, Any]], None]:
    def start(options: dict[str, Any]) -> None:
        try:
            ray.init(LOCAL, num_cpus=cpus, include_dashboard=False, **options)
        except OSError as error:
            folder = os.environ.get("RAY_TMPDIR", tempfile.gettempdir())
            raise ColllmError(
                f"Ray cannot start in {folder}: {error}; set $RAY_TMPDIR to a folder that you may write, with a short"
                " path"
            ) from error
        except Exception as error:  # just that Ray raises where its processes are not there in time
            raise ColllmError(
                f"Ray did not start: {error} Where the machine is busy, try again once it is less so, or let a cluster"
                " run it (--address)"
            ) from error

    return start


@contextmanager
def _session(connect: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    # Ray Train takes one report in at each poll of its controller, which by default comes every two seconds.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
    # A proxy that busy CPUs hold up for the usual five seconds would be killed, and Serve's start would fail.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    leave_out_alarms()
    with _own_handlers():
        connect({"log_to_driver": False, "logging_level": logging.WARNING})
    for name in ("ray.data", "ray.serve"):  # each stage shows its own progress
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # that its bars are off is meant
    DataContext.get_current().enable_progress_bars = False
    try:
        yield
    finally:
        ray.shutdown()


def _have_token() -> None:
    """A Ray that starts keeps its token in the home; where that cannot be written, it is told one."""
    try:
        (Path.home() / ".ray").mkdir(exist_ok=True)
    except OSError:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Keeps the handlers of signals: Ray puts others in their place when it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SystemExit:  # Ray's own handler while it starts
        if callable(handler := handlers[signal.SIGTERM]):
            handler(signal.SIGTERM, None)
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
