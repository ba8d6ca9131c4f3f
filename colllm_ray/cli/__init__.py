"""`colllm`: one sub-command a stage, no logic of its own."""

from __future__ import annotations

import sys

from colllm_ray.cli.stopping import stopping_at_signals


def main(*stage: str) -> None:
    """Runs the command line, of one stage if it is given.

    Exit status 1 and one line on standard error for what the user can put right; 130 or 143, and nothing, where Ctrl-C
    or SIGTERM ended it.
    """
    with stopping_at_signals():  # before what takes long to import
        from colllm_ray.cli.arguments import parser
        from colllm_ray.cli.trouble import what_to_mend

        args = parser().parse_args([*stage, *sys.argv[1:]])
        try:
            args.run(args)
        except Exception as error:
            if (line := what_to_mend(error)) is None:
                raise
            sys.exit(f"error: {line}")
