"""Processes that these tests have started: another run of them may have its own on the same machine."""

from __future__ import annotations

from contextlib import suppress

import psutil


def started_processes(what: str) -> list[psutil.Process]:
    """Those under this process, its Ray's among them, whose command line holds `what`."""
    found = []
    for process in psutil.Process().children(recursive=True):
        if what in named(process):
            found.append(process)
    return found


def named(process: psutil.Process) -> str:
    """Its command line, as it is now; nothing once it has ended."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline())
    return ""
