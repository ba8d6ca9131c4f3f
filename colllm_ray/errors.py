"""The exceptions that are no faults of ours: a user's own input raises the one, a signal the other."""


class ColllmError(Exception):
    """Something that the user can put right; the message says what was wrong, where, and what would be right.

    The command line prints the message alone, without a traceback.
    """


class StoppedError(KeyboardInterrupt):
    """A signal ends the command: no `except Exception` may hold it up."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
