"""Work that waits for the worker: rows with one answer each, and texts that are sent while they are generated."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from polymodal.serving.operations.base import Operation
from polymodal.serving.operations.generation import GeneratedTexts, GenerateTexts
from polymodal.serving.rows import Row
from polymodal.serving.served_model import ServedModel

Lane = tuple[str, Operation]


@dataclass(frozen=True, eq=False)
class RowsJob:
    """The rows of one request. `future` gets the list of their answers."""

    served: ServedModel
    operation: Operation
    rows: list[Row]
    future: Future[list[Any]] = field(default_factory=Future)

    @property
    def lane(self) -> Lane:
        """Jobs of one lane may be computed together; lanes take turns."""
        return self.served.name, self.operation


class TextStream:
    """A text that is generated piece by piece. The event loop reads `events`: texts, then a `GeneratedTexts` or an
    exception.

    abandoned: whether the client has gone, so that the rest is not generated
    """

    def __init__(self, served: ServedModel, operation: GenerateTexts, row: Row) -> None:
        self.served, self.operation, self.row = served, operation, row
        self.events: asyncio.Queue[str | GeneratedTexts | Exception] = asyncio.Queue()
        self.abandoned = False
        self._loop = asyncio.get_running_loop()
        self._pieces: Generator[str, None, GeneratedTexts] | None = None

    def step(self) -> bool:
        """Generate the next piece, in the thread of the worker; False at the end."""
        if self.abandoned:
            if self._pieces is not None:
                self._pieces.close()
            return False
        try:
            if self._pieces is None:
                self._pieces = self.operation.stream(self.served, self.row)
            self.send(next(self._pieces))
        except StopIteration as end:
            self.send(end.value)
        except Exception as error:  # noqa: BLE001  # raised again in the event loop
            self.send(error)
        else:
            return True
        return False

    def send(self, event: str | GeneratedTexts | Exception) -> None:
        """Give an event to the event loop, from any thread."""
        self._loop.call_soon_threadsafe(self.events.put_nowait, event)
