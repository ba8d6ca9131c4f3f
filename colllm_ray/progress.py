"""Progress for people: one look for every stage, bars in a terminal and lines in a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TextColumn, TimeElapsedColumn

LOG_WIDTH = 160  # characters
LOG_STEPS = 10  # lines that a task writes in a log as it comes further
LOG_EVERY_S = 25.0  # and one at least in this time


def results_console() -> Console:
    """What results are printed on; in a log there is room for wide tables."""
    console = Console()
    return console if console.is_terminal else Console(width=LOG_WIDTH)


def progress_bars() -> Progress:
    """Bars on standard error, so that what a command prints stays clean."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return ProgressLines(console)
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=console)


@contextmanager
def repeating(do: Callable[[], None], every_s: float) -> Iterator[None]:
    """Calls `do` again and again, in a thread of its own, while the body runs."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every_s):
            do()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class ProgressLines(Progress):
    """A line each time a task has come a tenth further, and when it was silent for long; the moving display is off."""

    def __init__(self, console: Console, every_s: float = LOG_EVERY_S) -> None:
        super().__init__(console=console, disable=True)
        self._every_s = every_s

        self._written: dict[TaskID, float] = {}
        self._watch = ExitStack()

    def start(self) -> None:
        self._watch.enter_context(repeating(self._show_life, self._every_s / 10))

    def stop(self) -> None:
        self._watch.close()

    def update(self, task_id: TaskID, **changes: object) -> None:
        before = self._tenths(task_id)
        super().update(task_id, **changes)  # type: ignore[arg-type]
        self._log(task_id, before)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        before = self._tenths(task_id)
        super().advance(task_id, advance)
        self._log(task_id, before)

    def _tenths(self, task_id: TaskID) -> int:
        return int(self.tasks[task_id].percentage * LOG_STEPS / 100)

    def _log(self, task_id: TaskID, before: int) -> None:
        if self._tenths(task_id) != before:
            self._write(self.tasks[task_id])

    def _show_life(self) -> None:
        now = time.monotonic()
        for task in self.tasks:
            is_done = task.total is not None and task.completed >= task.total
            if now - self._written.setdefault(task.id, now) >= self._every_s and not is_done:
                self._write(task)

    def _write(self, task: Task) -> None:
        self._written[task.id] = time.monotonic()
        total = f"/{task.total:.0f}" if task.total is not None else f" in {_duration(task.elapsed)}"
        line = f"{task.description}: {task.completed:.0f}{total} {task.fields['note']}"
        self.console.print(line.rstrip(), highlight=False, soft_wrap=True)


def _duration(seconds: float | None) -> str:
    return str(timedelta(seconds=round(seconds or 0)))
