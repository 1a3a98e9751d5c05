"""The state that all routes share: the models, the worker, options and measurements."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request

from polymodal.core.errors import did_you_mean
from polymodal.serving.errors import RequestError
from polymodal.serving.jobs import RowsJob
from polymodal.serving.metrics import ServiceMetrics
from polymodal.serving.operations.base import Operation, check_answers
from polymodal.serving.options import ServingOptions
from polymodal.serving.rows import Row
from polymodal.serving.served_model import ServedModel
from polymodal.serving.worker import InferenceWorker


class ServiceState:
    """What the routes of one service share."""

    def __init__(self, models: dict[str, ServedModel], options: ServingOptions) -> None:
        self.models, self.options = models, options
        self.metrics = ServiceMetrics()
        self.worker = InferenceWorker(options.max_batch_rows, self.metrics)

    def find(self, name: str | None) -> ServedModel:
        """The model of a request; without a name the only one.

        Raises:
            RequestError: there is no such model, or the name is missing and there are several.
        """
        if name is None and len(self.models) == 1:
            return next(iter(self.models.values()))
        if name is None:
            raise RequestError(f"set `model` to one of {', '.join(self.models)}", code="missing_model", param="model")
        if name not in self.models:
            hint = did_you_mean(name, self.models)
            raise RequestError(f"there is no model {name!r}; {hint}", status=404, code="model_not_found", param="model")
        return self.models[name]

    def check_count(self, count: int, what: str) -> None:
        """Check the number of rows of a request.

        Raises:
            RequestError: there are none, or more than `max_rows`.
        """
        if not 1 <= count <= self.options.max_rows:
            raise RequestError(
                f"{what} has {count} entries; give 1 to {self.options.max_rows}", code="number_of_rows", param=what
            )

    async def compute(self, request: Request, served: ServedModel, operation: Operation, rows: list[Row]) -> list[Any]:
        """The answer of each row. If the client goes away, rows that still wait are not computed.

        Raises:
            RequestError: a cell cannot be used.
        """
        job = RowsJob(served, operation, rows)
        self.worker.submit(job)
        result: asyncio.Future[Any] = asyncio.wrap_future(job.future)
        gone: asyncio.Future[Any] = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                result.cancel()
                raise RequestError("the client has gone", code="client_gone")
            answers = await result
        finally:
            gone.cancel()
            await asyncio.wait({gone})
        check_answers(answers)
        return answers


async def _disconnected(request: Request) -> None:
    """Return when the client has closed the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
