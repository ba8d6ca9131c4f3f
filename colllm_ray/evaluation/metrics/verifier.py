"""Whether two expressions are worth the same, asked of another process."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from importlib.util import find_spec
from threading import Lock
from typing import IO, cast

from colllm_ray.errors import ColllmError

SECONDS = 5.0  # for a pair; most take some milliseconds
PROCESS = "colllm_ray.evaluation.metrics.verifier_process"


class Verifier:
    """Asks Math-Verify, in a process of its own, which starts with the first question.

    There are expressions, such as 12345678^{87654321}, over which Math-Verify would sit for ever, and its own time
    limits work in the main thread alone. What takes more than `seconds` is equivalent to nothing. Raises ColllmError
    where Math-Verify is not installed.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        if find_spec("math_verify") is None:
            raise ColllmError("the metric `math` needs Math-Verify: pip install 'colllm-ray[eval]'")
        self._seconds = seconds
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None

    def equivalent(self, reference: str, answer: str) -> bool:
        """Whether both are worth the same. Raises RuntimeError where the process fails."""
        with self._lock:
            process = self._process = self._process or self._start()
            questions, answers = cast(IO[str], process.stdin), cast(IO[str], process.stdout)
            try:
                questions.write(json.dumps([reference, answer]) + "\n")
                questions.flush()
                line = answers.readline()
            except BrokenPipeError:
                line = ""
            if not line:
                raise RuntimeError(f"{PROCESS} ended with status {process.wait()}; it wrote why")
            return bool(json.loads(line))

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", PROCESS, str(self._seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            process_group=0,  # Ctrl-C is for the command, with which its input ends
        )
        weakref.finalize(self, process.communicate)  # the end of its input is its own
        return process
