"""The one exception that a user's own input raises."""


class ColllmError(Exception):
    """Something that the user can put right; the message says what was wrong, where, and what would be right.

    The command line prints the message alone, without a traceback.
    """


def one_line(error: BaseException) -> str:
    """What an error of a library says, on one line: its first, with the kind of error where that alone says little."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return first if " " in first else f"{type(error).__name__}: {first}".removesuffix(": ")
