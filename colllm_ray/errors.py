"""The one exception that a user's own input raises."""


class ColllmError(Exception):
    """Something that the user can put right; the message says what was wrong, where, and what would be right.

    The command line prints the message alone, without a traceback.
    """
