"""What Ray says when all is well and reads as if it were not: it is left out, and nothing else."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

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


def leave_out_alarms() -> None:
    """For the loggers of this process; may be called again."""
    for name, each in LEFT_OUT.items():
        logging.getLogger(name).addFilter(each)  # one that is there already is not added again


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
