"""A bar that follows a run, and says what the last report did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from upath import UPath

from colllm_ray.progress import progress_bars, repeating
from colllm_ray.storage import is_local
from colllm_ray.training.report import Report
from colllm_ray.training.run_log import latest_report


@contextmanager
def run_bar(folder: UPath, title: str) -> Iterator[None]:
    """Shows the target tokens that are done, in all epochs, while the body runs."""
    poll_seconds = 0.2 if is_local(folder) else 2.0
    with progress_bars() as progress:
        bar = progress.add_task(title, total=None, note="")

        def show() -> None:
            with suppress(OSError):  # a storage that is away for a moment: the bar can wait
                if (last := latest_report(folder)) is not None:
                    total = last.targets_done + last.targets_to_go
                    progress.update(bar, completed=last.targets_done, total=total, note=_note(last))

        try:
            with repeating(show, poll_seconds):
                yield
        finally:
            show()


def _note(last: Report) -> str:
    left = timedelta(seconds=round(last.targets_to_go / last.targets_per_second))
    parts = [f"epoch {last.epoch}", f"loss {last.loss:.4f}"]
    if last.validation_loss is not None:
        parts.append(f"validation {last.validation_loss:.4f}")
    return ", ".join([*parts, f"{last.targets_per_second:,.0f} targets/s", f"{left} left"])
