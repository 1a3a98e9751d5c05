"""`POST /v1/decisions`: questions about an input, answered with the probabilities of a model's classes."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse

from polymodal.core.options import StrictModel
from polymodal.serving.bodies import body_size, off_loop, read_json_body
from polymodal.serving.content_parts import media_cells, read_content, text_cell
from polymodal.serving.decision_questions import Question, answer_question
from polymodal.serving.errors import RequestError
from polymodal.serving.operations.prediction import PredictRows
from polymodal.serving.rows import Row, read_rows
from polymodal.serving.served_model import ServedModel
from polymodal.serving.state import ServiceState


class DecisionsBody(StrictModel):
    """Questions about one input."""

    model: str | None = None
    """Name of the model; not needed if there is only one."""
    input: Any
    """A text, or a list with one message of the user. A part `{"type": "input_json", "data": {column: cell}}` holds
    cells of the row."""
    questions: list[Question] = Field(min_length=1, max_length=400)
    safety_identifier: str | None = None
    """Accepted for clients that send it; it has no meaning here."""


async def decisions(request: Request) -> JSONResponse:
    """Answer the questions in their order."""
    state: ServiceState = request.app.state.service
    body = await read_json_body(request, state.options, DecisionsBody)
    served = state.find(body.model)
    if not any(task.has_probabilities and task.grid is None for task in served.tasks.values()):
        raise RequestError(
            f"the model {served.name!r} has no classes; use /v1/predict", code="unsupported", param="model"
        )
    rows = await off_loop(body_size(request), lambda: read_rows([_row(body.input, served)], served))
    (answer,) = await state.compute(request, served, PredictRows(), rows)
    found = {
        name: [(one["value"], one["probability"]) for one in output["probabilities"]]
        for name, output in answer.items()
        if "probabilities" in output
    }
    answers = [answer_question(one, found, f"questions.{number}") for number, one in enumerate(body.questions)]
    usage = {
        "input_tokens": 0,
        "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    }
    return JSONResponse({"model": served.name, "answers": answers, "usage": usage})


def _row(given: Any, served: ServedModel) -> Row:
    """The row of an input: its text, its media, and the cells of its JSON."""
    if isinstance(given, str):
        return text_cell(given, served)
    message = given[0] if isinstance(given, list) and len(given) == 1 else None
    if not isinstance(message, dict) or message.get("role") != "user" or message.get("type", "message") != "message":
        raise RequestError("input is a text, or a list with one message of the user", param="input")
    content, row = message.get("content"), Row()
    if isinstance(content, list):
        cells = [part for part in content if isinstance(part, dict) and part.get("type") == "input_json"]
        content = [part for part in content if part not in cells]
        for part in cells:
            if not isinstance(part.get("data"), dict):
                raise RequestError("input.0.content: the data of input_json is an object of cells", param="input")
            row |= part["data"]
        if not content:
            return row
    read = read_content(content, "input.0.content")
    return row | media_cells(read.media, served) | text_cell(read.text, served)
