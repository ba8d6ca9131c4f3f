"""The course of a training run: a line of JSON for each epoch, and a bar that follows it.

Ray Train's controller writes the lines and the driver reads them; Ray puts both on one node.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.train import Checkpoint, UserCallback
from upath import UPath

from colllm_ray.progress import progress_bars
from colllm_ray.storage import write_whole

POLL_SECONDS = 0.2


class EpochLog(UserCallback):
    """Appends what rank 0 reports to a JSONL file, after the checkpoint of that epoch is safe."""

    def __init__(self, path: UPath) -> None:
        self._path = path

    def after_report(
        self,
        run_context: object,  # noqa: ARG002 (Ray Train's signature)
        metrics: list[dict[str, Any]],
        checkpoint: Checkpoint | None,  # noqa: ARG002
    ) -> None:
        try:
            before = self._path.read_bytes()  # object stores cannot append
        except FileNotFoundError:
            before = b""
        write_whole(self._path, before + json.dumps(metrics[0]).encode() + b"\n")


@contextmanager
def epoch_bar(path: UPath, epochs: int) -> Iterator[None]:
    """Shows the epochs that the log at `path` holds, while the body runs."""
    done = threading.Event()
    with progress_bars() as progress:
        bar = progress.add_task("train head", total=epochs, note="")

        def show() -> None:
            lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
            if lines:
                last = json.loads(lines[-1])
                note = f"loss {last['loss']:.4f}, validation {last['validation_loss']:.4f}"
                progress.update(bar, completed=last["epoch"], note=note)

        def follow() -> None:
            while not done.wait(POLL_SECONDS):
                show()

        follower = threading.Thread(target=follow, name="epoch-bar", daemon=True)
        follower.start()
        try:
            yield
        finally:
            done.set()
            follower.join()
            show()
