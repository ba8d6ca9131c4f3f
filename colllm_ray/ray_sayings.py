"""What Ray says when all is well and reads as if it were not: it is left out, and nothing else."""

from __future__ import annotations

import logging


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
