"""`POST /v1/predict`: rows in, predictions out."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from polymodal.core.options import StrictModel
from polymodal.serving.bodies import body_size, off_loop, read_form, read_json_body
from polymodal.serving.operations.prediction import PredictRows
from polymodal.serving.rows import read_rows
from polymodal.serving.state import ServiceState


class PredictBody(StrictModel):
    """Rows to predict.

    Example:
        >>> PredictBody(rows=[{"length": 1.2}]).probabilities
        True
    """

    model: str | None = None
    """Name of the model; not needed if there is only one."""
    rows: list[dict[str, Any]]
    """Each row: a cell by column. Media are base64 in a `data:` address."""
    probabilities: bool = True
    """List the probability of each class."""


async def predict(request: Request) -> JSONResponse:
    """Answer rows in JSON, or one row as a multipart form with a field or file for each column.

    With a form, the model is the query parameter `model`.
    """
    state: ServiceState = request.app.state.service
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        fields = await read_form(request, state.options)
        body = PredictBody(model=request.query_params.get("model"), rows=[fields])
    else:
        body = await read_json_body(request, state.options, PredictBody)
    served = state.find(body.model)
    state.check_count(len(body.rows), "rows")
    rows = await off_loop(body_size(request), read_rows, body.rows, served)
    answers = await state.compute(request, served, PredictRows(body.probabilities), rows)
    return JSONResponse({"model": served.name, "predictions": answers, "usage": {"rows": len(rows)}})
