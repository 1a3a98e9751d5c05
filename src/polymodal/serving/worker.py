"""The thread that computes: it takes what waits as soon as it is free, and computes rows of several requests together.

It never waits for a batch to fill up: under load, batches are large because requests arrive while one is computed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque

from polymodal.serving.errors import RequestError
from polymodal.serving.jobs import Lane, RowsJob, TextStream
from polymodal.serving.metrics import ServiceMetrics

#: Texts that are generated piece by piece at once; each keeps its state in memory.
MAX_STREAMS = 8


class InferenceWorker(threading.Thread):
    """One thread for all models of a device.

    Jobs wait in lanes: one for each operation on a model. Lanes take turns, and each turn is one batch of at most
    `max_batch_rows` rows (or one job, if it has more). Between two batches each running text gets one more piece, so
    neither long texts nor large tables block short requests.

    If a batch fails, each of its jobs is computed alone, so that a request never fails because of another one.
    """

    def __init__(self, max_batch_rows: int, metrics: ServiceMetrics) -> None:
        super().__init__(name="inference", daemon=True)
        self.max_batch_rows, self.metrics = max_batch_rows, metrics
        self._changed = threading.Condition()
        self._lanes: OrderedDict[Lane, deque[RowsJob]] = OrderedDict()
        self._streams: deque[TextStream] = deque()
        self._stopped = False

    def submit(self, job: RowsJob) -> None:
        """Add the rows of a request.

        Raises:
            RequestError: the service stops.
        """
        with self._changed:
            self._check_running()
            self._lanes.setdefault(job.lane, deque()).append(job)
            self._changed.notify()

    def submit_stream(self, stream: TextStream) -> None:
        """Add a text that is generated piece by piece.

        Raises:
            RequestError: the service stops.
        """
        with self._changed:
            self._check_running()
            self._streams.append(stream)
            self._changed.notify()

    def stop(self) -> None:
        """End the thread after its current step. What still waits gets an error."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        running: deque[TextStream] = deque()
        while True:
            with self._changed:
                while not (self._lanes or self._streams or running or self._stopped):
                    self._changed.wait()
                if self._stopped:
                    break
                while self._streams and len(running) < MAX_STREAMS:
                    running.append(self._streams.popleft())
                batch = self._take_batch()
            if batch:
                self._compute(batch)
            for _ in range(len(running)):
                stream = running.popleft()
                if stream.step():
                    running.append(stream)
        stopping = RequestError("the service stops", status=503, code="stopping")
        for stream in (*running, *self._streams):
            stream.send(stopping)
        for lane in self._lanes.values():
            for job in lane:
                if job.future.set_running_or_notify_cancel():
                    job.future.set_exception(stopping)

    def _check_running(self) -> None:
        if self._stopped:
            raise RequestError("the service stops", status=503, code="stopping")

    def _take_batch(self) -> list[RowsJob]:
        """The jobs of the next batch, from the lane that has waited longest. Those whose client has gone are left
        out."""
        if not self._lanes:
            return []
        key, lane = self._lanes.popitem(last=False)
        batch: list[RowsJob] = []
        rows = 0
        while lane and (not batch or (self._joins(batch[0]) and rows + len(lane[0].rows) <= self.max_batch_rows)):
            job = lane.popleft()
            if job.future.set_running_or_notify_cancel():
                batch.append(job)
                rows += len(job.rows)
        if lane:
            self._lanes[key] = lane
        return batch

    def _joins(self, job: RowsJob) -> bool:
        return job.operation.joins(job.served)

    def _compute(self, batch: list[RowsJob]) -> None:
        first = batch[0]
        rows = [row for job in batch for row in job.rows]
        try:
            answers = first.operation.compute(first.served, rows)
        except Exception as error:  # noqa: BLE001  # raised again in the event loop, for the request it belongs to
            if len(batch) == 1:
                first.future.set_exception(error)
                return
            for job in batch:
                self._compute([job])
            return
        self.metrics.batch_rows.observe(len(rows))
        for job in batch:
            job.future.set_result(answers[: len(job.rows)])
            answers = answers[len(job.rows) :]
