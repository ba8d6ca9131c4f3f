"""Processes that these tests have started: another run of them may have its own on the same machine."""

from __future__ import annotations

from contextlib import suppress

import psutil


def started_processes(named: str) -> list[psutil.Process]:
    """Those under this process, its Ray's among them, whose command line holds `named`."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if named in " ".join(process.cmdline()):
                found.append(process)
    return found
