"""The command line as a user runs it: in a process of its own."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import ray

# What is said where something is wrong: by logs of Ray, in Python and C++, and by Python.
ALARMING = re.compile(
    r"(?i)warn|error|traceback|exception|fail|retri|core_worker|logging\.cc|authentication|\(raylet\)"
)
DEADLINE_S = 600.0  # for `colllm demo` beside other tests, on a machine that does other things as well


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def ray_address() -> str:
    """Of the tests' own Ray, for those that join it from another process."""
    return str(ray.get_runtime_context().gcs_address)


def start_colllm(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "colllm_ray.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def alarms(output: str) -> list[str]:
    """Lines of a good run that read as if something were wrong."""
    return [line for line in output.splitlines() if ALARMING.search(line)]


def run_colllm(*arguments: object) -> tuple[int, str]:
    """Exit status and all that was printed."""
    process = start_colllm(*arguments)
    output, _ = process.communicate(timeout=DEADLINE_S)
    return process.returncode, output


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {DEADLINE_S} s")
        time.sleep(0.02)


def kill_when(process: subprocess.Popen[str], number: signal.Signals, condition: Callable[[], bool]) -> None:
    """Sends the signal once the condition holds; the process must not have ended before."""
    wait_until(lambda: condition() or process.poll() is not None, "the moment to kill")
    assert process.poll() is None, f"it ended by itself: {process.stdout and process.stdout.read()}"
    process.send_signal(number)
    process.wait()
