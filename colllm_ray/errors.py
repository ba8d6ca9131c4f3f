"""The exceptions that are no faults of ours, of a user's input and of signals; and libraries' errors in one line."""

from __future__ import annotations

import re

# As Ray ends the report of what one of its processes raised.
_RAISED = re.compile(r"^(?:[a-z_]\w*\.)*([A-Z]\w*): (.*\S)", re.MULTILINE)


class ColllmError(Exception):
    """Something that the user can put right; the message says what was wrong, where, and what would be right.

    The command line prints the message alone, without a traceback.
    """


class StoppedError(KeyboardInterrupt):
    """A signal ends the command: no `except Exception` may hold it up."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")


def one_line(error: BaseException) -> str:
    """What an error of a library says, on one line: its first, with the kind of error where that alone says little."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return said if " " in said else f"{type(error).__name__}: {said}".removesuffix(": ")


def raised_by_user(report: str) -> str | None:
    """The message of the ColllmError that a process of Ray reports, with tracebacks, or of none."""
    return next((message for name, message in reversed(_RAISED.findall(report)) if name == ColllmError.__name__), None)


def reason_in(report: str) -> str:
    """The one line of such a report that says why: that of a ColllmError, else of the last error that it names."""
    raised = [": ".join(error) for error in _RAISED.findall(report)]
    last = next((line.strip() for line in reversed(report.splitlines()) if line.strip()), report)
    return raised_by_user(report) or (raised[-1] if raised else last)
