"""The worker: what waits is computed together, no request fails because of another one, and lanes take turns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from polymodal.serving.errors import RequestError
from polymodal.serving.jobs import RowsJob, TextStream
from polymodal.serving.metrics import ServiceMetrics
from polymodal.serving.operations.base import Operation
from polymodal.serving.operations.generation import GeneratedTexts, GenerateTexts
from polymodal.serving.rows import Row
from polymodal.serving.served_model import ServedModel
from polymodal.serving.worker import InferenceWorker

SECONDS = 60


@dataclass(frozen=True)
class Double(Operation):
    """Doubles numbers; fails for None. `calls` has the number of rows of each call."""

    name: str = "double"
    calls: list[int] = field(default_factory=list, compare=False)
    order: list[str] = field(default_factory=list, compare=False)
    alone: bool = False

    def compute(self, served: ServedModel, rows: list[Row]) -> list[Any]:
        self.calls.append(len(rows))
        self.order.append(self.name)
        return [2 * row["x"] for row in rows]

    def joins(self, served: ServedModel) -> bool:
        return not self.alone


@dataclass(frozen=True)
class Gate(Operation):
    """Keeps the worker busy until it is opened."""

    entered: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def compute(self, served: ServedModel, rows: list[Row]) -> list[Any]:
        self.entered.set()
        assert self.opened.wait(SECONDS)
        return [None] * len(rows)


@pytest.fixture
def served(folders: dict[str, Path]) -> ServedModel:
    return ServedModel("chat", folders["chat"], "cpu")


@pytest.fixture
def worker() -> Iterator[InferenceWorker]:
    found = InferenceWorker(4, ServiceMetrics())
    found.start()
    yield found
    found.stop()


@pytest.fixture
def gate(worker: InferenceWorker, served: ServedModel) -> Iterator[Gate]:
    """The worker is busy when the test begins; all jobs of the test wait until the gate is opened."""
    found = Gate()
    worker.submit(RowsJob(served, found, [{}]))
    assert found.entered.wait(SECONDS)
    yield found
    found.opened.set()


def submitted(worker: InferenceWorker, served: ServedModel, operation: Operation, *numbers: Any) -> RowsJob:
    job = RowsJob(served, operation, [{"x": number} for number in numbers])
    worker.submit(job)
    return job


def test_jobs_that_wait_are_computed_together(worker: InferenceWorker, served: ServedModel, gate: Gate) -> None:
    operation = Double()
    jobs = [submitted(worker, served, operation, *numbers) for numbers in ([1, 2], [3], [4], [5, 6], [7] * 9)]
    gate.opened.set()
    assert [job.future.result(SECONDS) for job in jobs] == [[2, 4], [6], [8], [10, 12], [14] * 9]
    assert operation.calls == [4, 2, 9]  # at most 4 rows, or one job


def test_jobs_that_must_be_alone_are(worker: InferenceWorker, served: ServedModel, gate: Gate) -> None:
    operation = Double(alone=True)
    jobs = [submitted(worker, served, operation, number) for number in (1, 2, 3)]
    gate.opened.set()
    assert [job.future.result(SECONDS) for job in jobs] == [[2], [4], [6]]
    assert operation.calls == [1, 1, 1]


def test_a_job_that_fails_takes_no_other_with_it(worker: InferenceWorker, served: ServedModel, gate: Gate) -> None:
    operation = Double()
    jobs = [submitted(worker, served, operation, number) for number in (1, None, 3)]
    gate.opened.set()
    assert [jobs[0].future.result(SECONDS), jobs[2].future.result(SECONDS)] == [[2], [6]]
    with pytest.raises(TypeError):
        jobs[1].future.result(SECONDS)


def test_lanes_take_turns(worker: InferenceWorker, served: ServedModel, gate: Gate) -> None:
    order: list[str] = []
    long, short = Double("long", order=order), Double("short", order=order)
    jobs = [submitted(worker, served, long, *range(4)) for _ in range(3)]
    jobs.append(submitted(worker, served, short, 1))
    gate.opened.set()
    for job in jobs:
        job.future.result(SECONDS)
    assert order == ["long", "short", "long", "long"]


def test_a_job_whose_client_has_gone_is_not_computed(worker: InferenceWorker, served: ServedModel, gate: Gate) -> None:
    operation = Double()
    gone, other = submitted(worker, served, operation, 1), submitted(worker, served, operation, 2)
    assert gone.future.cancel()
    gate.opened.set()
    assert other.future.result(SECONDS) == [4]
    assert operation.calls == [1]


def test_what_waits_at_the_end_gets_an_error(worker: InferenceWorker, served: ServedModel, gate: Gate) -> None:
    waiting = submitted(worker, served, Double(), 1)
    ending = threading.Thread(target=worker.stop)
    ending.start()
    while not worker._stopped:
        pass
    gate.opened.set()
    ending.join()
    with pytest.raises(RequestError, match="the service stops"):
        waiting.future.result(SECONDS)
    with pytest.raises(RequestError, match="the service stops"):
        submitted(worker, served, Double(), 1)


def test_texts_are_generated_between_batches(
    worker: InferenceWorker, served: ServedModel, dialogues: dict[str, list[Any]]
) -> None:
    """Two texts and rows at once: every text arrives whole, and an abandoned one ends."""

    async def collect(stream: TextStream) -> tuple[str, GeneratedTexts]:
        pieces = []
        while isinstance(event := await asyncio.wait_for(stream.events.get(), SECONDS), str):
            pieces.append(event)
        assert isinstance(event, GeneratedTexts)
        return "".join(pieces), event

    async def run() -> list[tuple[str, GeneratedTexts]]:
        operation = GenerateTexts("answer", '{"max_new_tokens": 8}')
        rows = [{name: dialogues[name][row] for name in ("image", "history", "question")} for row in (0, 1)]
        streams = [TextStream(served, operation, row) for row in rows]
        gone = TextStream(served, operation, rows[0])
        gone.abandoned = True
        for stream in (*streams, gone):
            worker.submit_stream(stream)
        job = submitted(worker, served, Double(), 4)
        found = [await collect(stream) for stream in streams]
        assert job.future.result(SECONDS) == [8]
        assert gone.events.empty()
        return found

    for text, whole in asyncio.run(run()):
        assert text == whole.texts[0].text
