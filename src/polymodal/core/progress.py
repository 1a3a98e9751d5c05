"""Progress of long work on standard error: bars on a terminal, plain lines in a file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from polymodal.core.formatting import escape_controls, truncate
from polymodal.core.terminal import make_console, plain_text

#: Seconds between two lines about the same work in a file; work that takes less than `QUICK` seconds has no line.
LINE_SECONDS, QUICK = 30.0, 1.0
#: Characters of a bar with its percentage and its two times.
_BAR, _PERCENT, _TIMES = 8, 4, 25


@dataclass
class ProgressTask:
    """Progress of one piece of work. Call it with the number of units done since the last call."""

    title: str = ""
    bar: RichProgress | None = None
    task: Any = None
    console: Console | None = None
    width: int = 64
    total: int | None = None
    done: int = 0
    text: str = ""
    started: float = field(default_factory=time.monotonic)
    last_shown: float = field(default_factory=time.monotonic)

    def __call__(self, done: int) -> None:
        self.done += done
        if self.bar:
            self.bar.advance(self.task, done)
        self._line()

    def status(self, done: int, planned: int, text: str) -> None:
        """Set the number of units done and planned, and a short text such as `epoch 3, loss 0.52`."""
        self.done, self.total, self.text = done, planned, text
        now = time.monotonic()
        if self.bar and (now - self.last_shown > 0.1 or done == planned):
            self.last_shown = now
            name = truncate(self.title, max(10, self.width - len(text) - 2))
            title = f"{_markup(name)}  [dim]{_markup(text)}[/dim]"
            self.bar.update(self.task, completed=done, total=planned, description=title)
        self._line()

    def finish(self) -> None:
        """Show that the work is complete."""
        if self.bar:
            whole = self.bar.tasks[0].total or 1  # work that was done before is not counted in `done`
            self.bar.update(self.task, total=whole, completed=whole)
        elif self.console and (self.text or time.monotonic() - self.started >= QUICK):
            self._print([self.text, f"done in {clock(time.monotonic() - self.started)}"])

    def _line(self) -> None:
        """In a file: a line every 30 seconds."""
        now = time.monotonic()
        if self.console and now - self.last_shown >= LINE_SECONDS:
            self.last_shown = now
            elapsed = now - self.started
            parts = [self.text]
            if self.total:
                parts.append(f"{min(1.0, self.done / self.total):.0%}")
            parts.append(f"{clock(elapsed)} elapsed")
            if self.total and 0 < self.done < self.total:
                parts.append(f"{clock(elapsed * (self.total - self.done) / self.done)} left")
            self._print(parts)

    def _print(self, parts: list[str]) -> None:
        assert self.console is not None
        self.console.print(plain_text(f"{self.title}: {', '.join(filter(None, parts))}"), soft_wrap=True)


class Progress:
    """Progress on standard error, for each piece of work a bar or, where that is no terminal, plain lines.

    enabled: False shows nothing
    """

    def __init__(self, enabled: bool = True) -> None:
        self.console = make_console(stderr=True)
        self.console.quiet = not enabled
        self.enabled = enabled

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[ProgressTask]:
        """Show the progress of the work inside; without `total`, a pulsing bar."""
        if not self.enabled:
            yield ProgressTask()
            return
        if not self.console.is_terminal:
            task = ProgressTask(title, console=self.console, total=total)
            yield task
            task.finish()
            return
        with RichProgress(*_columns(self.console.width), console=self.console) as bar:
            width = _title_width(self.console.width)
            task = ProgressTask(title, bar, bar.add_task(_markup(title), total=total), width=width)
            yield task
            task.finish()

    def log(self, text: str) -> None:
        """Print a line between the bars."""
        self.console.print(plain_text(text), soft_wrap=not self.console.is_terminal)


def clock(seconds: float) -> str:
    """`0:05`, `12:30` or `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _markup(text: str) -> str:
    """A text as markup of a bar's title."""
    return escape(escape_controls(text))


class _Times(ProgressColumn):
    """`0:12 elapsed  0:30 left`."""

    def render(self, task: Task) -> Text:
        elapsed = task.finished_time if task.finished else task.elapsed
        text = Text(f"{clock(elapsed or 0)} elapsed", style="progress.elapsed")
        if not task.finished and task.time_remaining is not None:
            text.append(f"  {clock(task.time_remaining)} left", style="progress.remaining")
        return text


def _bar_width(width: int) -> int:
    return _BAR if width < 100 else 3 * _BAR


def _title_width(width: int) -> int:
    return max(16, min(64, width - _bar_width(width) - _PERCENT - _TIMES - 3))


def _columns(width: int) -> list[ProgressColumn]:
    """Title and status, bar, percentage and times; the title gets the room that the terminal leaves."""
    title = _title_width(width)
    return [
        TextColumn("{task.description}", table_column=Column(width=title, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=_bar_width(width)),
        TextColumn("{task.percentage:>3.0f}%", table_column=Column(width=_PERCENT, no_wrap=True)),
        _Times(table_column=Column(no_wrap=True)),
    ]
