"""The processes of a Ray that this process has started."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import psutil

END_S = 3.0  # that they have to end by themselves


class RayProcesses:
    """Made before Ray starts; ends what Ray and its processes have started, where it does not end by itself.

    Agents of a raylet that was killed would live on for half a minute.
    """

    def __init__(self) -> None:
        self._others = {process.pid for process in psutil.Process().children()}
        self._first: list[psutil.Process] | None = None
        self._all: list[psutil.Process] = []

    def have_started(self) -> None:
        """Takes notice of those of Ray itself."""
        self._first = self._new()

    def are_to_end(self) -> None:
        """Takes notice of those that they have started; without their parents nobody could find them."""
        self._all = _with_descendants(self._first or ())

    def end(self) -> None:
        """Waits until they have ended, and kills those that do not."""
        left = self._all if self._first is not None else _with_descendants(self._new())
        _, left = psutil.wait_procs(left, timeout=END_S)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _new(self) -> list[psutil.Process]:
        return [process for process in psutil.Process().children() if process.pid not in self._others]


def _with_descendants(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found += [process, *process.children(recursive=True)]
    return found
