"""What Ray says when all is well and reads as if it were not: it is left out, and nothing else."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray._private import worker

ABOUT_CONSTRUCTORS = b"has constructor arguments in the object store and max_restarts > 0"


class _Without(logging.Filter):
    """Leaves out the messages of a logger that begin so."""

    def __init__(self, *beginnings: str) -> None:
        super().__init__()
        self._beginnings = beginnings

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self._beginnings)


class _HiddenFromConsole(logging.Filter):
    """For loggers of Ray Data, whose file has all records: what is raised as well need not be printed."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.hide = True
        return True


LEFT_OUT: dict[str, logging.Filter] = {
    # That what Ray starts here asks for a token is as it should be.
    "ray._private.authentication.authentication_token_setup": _Without("Token authentication is enabled"),
    "ray.data.exceptions": _HiddenFromConsole(),
}


# Of a task that waits at an actor, such as Serve's controller, when the actor is stopped on purpose.
STOPPED_ON_PURPOSE = ("There are infinite retries remaining", "it was killed by `ray.kill`")


def leave_out_alarms() -> None:
    """For the loggers of this process, and what raylets tell it; may be called again."""
    for name, each in LEFT_OUT.items():
        logging.getLogger(name).addFilter(each)  # one that is there already is not added again
    if not isinstance(worker.print_to_stdstream, _Printing):
        worker.print_to_stdstream = _Printing(worker.print_to_stdstream)


class _Printing:
    """Prints what raylets tell, in the place of Ray's own function, but for actors that were stopped on purpose."""

    def __init__(self, printing: Callable[..., None]) -> None:
        self._print = printing

    def __call__(self, data: dict[str, Any], ignore_prefix: bool) -> None:
        lines = [line for line in data["lines"] if not all(saying in line for saying in STOPPED_ON_PURPOSE)]
        if lines:
            self._print({**data, "lines": lines}, ignore_prefix)


@contextmanager
def leaving_out(saying: bytes) -> Iterator[None]:
    """Leaves out lines with this saying of what the body writes to standard error; for Ray's part in C++.

    Everything else follows after the body, which should be short.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            said.seek(0)
            os.write(2, b"".join(line for line in said if saying not in line))
