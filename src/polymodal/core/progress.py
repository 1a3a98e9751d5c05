"""Progress of long work on the terminal, or none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


@dataclass
class ProgressTask:
    """Moves one bar: call it with the number of units done since, or `status` with done, total and a text."""

    bar: RichProgress | None = None
    task: Any = None
    shown: float = 0.0

    def __call__(self, done: int) -> None:
        if self.bar:
            self.bar.advance(self.task, done)

    def status(self, done: int, planned: int, text: str) -> None:
        now = time.monotonic()
        if self.bar and (now - self.shown > 0.1 or done == planned):
            self.shown = now
            self.bar.update(self.task, completed=done, total=planned, status=text)


class Progress:
    """Bars on standard error, one per piece of work; `Progress(False)` shows nothing."""

    def __init__(self, shown: bool = True) -> None:
        self.console = Console(stderr=True, quiet=not shown)
        self.shown = shown and self.console.is_terminal

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[ProgressTask]:
        """Show a bar for the work inside; without `total`, a pulsing one."""
        if not self.shown:
            yield ProgressTask()
            return
        columns = [
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
        ]
        with RichProgress(*columns, console=self.console) as bar:
            task = bar.add_task(title, total=total, status="")
            yield ProgressTask(bar, task)
            whole = bar.tasks[0].total or 1  # what was found done before is not counted on the way
            bar.update(task, total=whole, completed=whole)

    def log(self, text: str) -> None:
        """A line beside the bars."""
        self.console.print(text, highlight=False)
