"""Progress for people: one look for every stage, bars in a terminal and lines in a log."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LOG_WIDTH = 160  # characters
LOG_STEPS = 10  # lines that a task writes in a log, at most


def results_console() -> Console:
    """What results are printed on; in a log there is room for wide tables."""
    console = Console()
    return console if console.is_terminal else Console(width=LOG_WIDTH)


def progress_bars() -> Progress:
    """Bars on standard error, so that what a command prints stays clean."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return _ProgressLines(console=console, disable=True)
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=console)


class _ProgressLines(Progress):
    """A line each time a task has come a tenth further; the moving display is off."""

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
        if self._tenths(task_id) == before:
            return
        task = self.tasks[task_id]
        line = f"{task.description}: {task.completed:.0f}/{task.total:.0f} {task.fields['note']}"
        self.console.print(line.rstrip(), highlight=False, soft_wrap=True)
