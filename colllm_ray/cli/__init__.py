"""`colllm`: one sub-command a stage, no logic of its own."""

from __future__ import annotations

import sys

from colllm_ray.cli.arguments import parser
from colllm_ray.errors import ColllmError


def main(*stage: str) -> None:
    """Runs the command line, of one stage if it is given.

    Exit status 1 and one line on standard error where the user's input is wrong.
    """
    args = parser().parse_args([*stage, *sys.argv[1:]])
    try:
        args.run(args)
    except Exception as error:
        if (users := _users_error(error)) is None:
            raise
        sys.exit(f"error: {users}")


def _users_error(error: BaseException | None) -> ColllmError | None:
    """The ColllmError that an error comes from, also where it was raised in a Ray worker."""
    while error is not None and not isinstance(error, ColllmError):
        error = error.__cause__
    return error
