"""The process of a `Verifier`: reads a pair of expressions a line, writes whether they are worth the same.

Lines are JSON: ["1/2", "0.5"], and then true. The argument is how many seconds it may sit over a pair.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

from colllm_ray.evaluation.metrics.closed_numbers import compare_exactly

KINDS = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())


def main(seconds: float) -> None:
    """Lets a copy of itself answer, and another one when that has run out of time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks is told too, and ends this one
    logging.disable(logging.WARNING)  # Math-Verify warns of the missing time limit
    compare_exactly()
    while answering := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(answering, 0)[1])
        if status != -signal.SIGALRM:
            sys.exit(status)
        print("false", flush=True)
    _answer(seconds)


def _answer(seconds: float) -> None:
    # The clock's signal ends the process: an exception would wait until a power of millions of digits is computed.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        reference, answer = (parse(rf"\boxed{{{one}}}", KINDS, parsing_timeout=None) for one in json.loads(line))
        same = verify(reference, answer, timeout_seconds=None)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(same), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
