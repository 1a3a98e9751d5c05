"""`POST /v1/embeddings`: embeddings of texts, of media, or of rows, as OpenAI clients ask for them."""

from __future__ import annotations

import base64
from typing import Any, Literal

import numpy as np
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse

from polymodal.core.errors import did_you_mean
from polymodal.core.options import StrictModel
from polymodal.serving.bodies import body_size, off_loop, read_json_body
from polymodal.serving.content_parts import media_cells, read_content, text_cell
from polymodal.serving.errors import RequestError
from polymodal.serving.operations.embedding import EmbedRows
from polymodal.serving.rows import Row, read_rows
from polymodal.serving.served_model import ServedModel
from polymodal.serving.state import ServiceState


class EmbeddingsBody(StrictModel):
    """Items to embed."""

    model: str | None = None
    """Name of the model; not needed if there is only one."""
    input: Any = None
    """A text, a list of texts, a list of `{"content": [parts]}`, or a list of `{"row": {column: cell}}`."""
    messages: list[dict[str, Any]] | None = None
    """In place of `input`: one message, whose content is embedded."""
    embed_input: str | None = None
    """Embed only this input of the model. Default: the inputs of the given contents, the whole row for rows."""
    dimensions: int | None = Field(default=None, ge=1)
    """Number of values: the first ones, normalized again."""
    encoding_format: Literal["float", "base64"] = "float"
    """Values as numbers, or as base64 of little-endian float32."""
    user: str | None = None
    """Accepted for clients that send it; it has no meaning here."""


async def embeddings(request: Request) -> JSONResponse:
    """Answer with the embedding of each item."""
    state: ServiceState = request.app.state.service
    body = await read_json_body(request, state.options, EmbeddingsBody)
    served = state.find(body.model)
    items = _items(body)
    state.check_count(len(items), "input")
    operation, rows = await off_loop(body_size(request), _read, items, body, served)
    vectors = await state.compute(request, served, operation, rows)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 0, "total_tokens": 0, "rows": len(rows)}
    return JSONResponse({"object": "list", "model": served.name, "data": data, "usage": usage})


def _items(body: EmbeddingsBody) -> list[Any]:
    if (body.input is None) == (body.messages is None):
        raise RequestError("give either `input` or `messages`", param="input")
    if body.messages is not None:
        if len(body.messages) != 1:
            raise RequestError("give one message; several items are a list in `input`", param="messages")
        return [{"content": body.messages[0].get("content")}]
    return body.input if isinstance(body.input, list) else [body.input]


def _read(items: list[Any], body: EmbeddingsBody, served: ServedModel) -> tuple[EmbedRows, list[Row]]:
    """The operation and the rows of the items."""
    cells: list[Row] = []
    kinds: set[bool] = set()
    for number, item in enumerate(items):
        path = f"input.{number}"
        if isinstance(item, str):
            item = {"content": item}
        keys = set(item) if isinstance(item, dict) else set()
        if keys == {"row"} and isinstance(item["row"], dict):
            cells.append(item["row"])
        elif keys == {"content"}:
            content = read_content(item["content"], f"{path}.content")
            cells.append(media_cells(content.media, served) | text_cell(content.text, served))
        else:
            what = "token ids are not read; " if isinstance(item, int | list) else ""
            raise RequestError(
                f'{path}: {what}an item is a text, {{"content": [parts]}} or {{"row": {{column: cell}}}}', param=path
            )
        kinds.add(keys == {"row"})
    if len(kinds) > 1:
        raise RequestError("rows and contents cannot be mixed in one request", param="input")
    name = body.embed_input
    if name is not None and name not in served.modalities:
        hint = did_you_mean(name, served.modalities)
        raise RequestError(f"the model has no input {name!r}; {hint}", param="embed_input")
    if name is None and kinds == {False}:
        name = _only_input(cells, served)
    return EmbedRows(name, body.dimensions), read_rows(cells, served, prompts=False)


def _only_input(cells: list[Row], served: ServedModel) -> str | None:
    """The input that all contents are for; None, the whole row, if each has those of several inputs."""
    used = {frozenset(name for name, one in served.modalities.items() if set(one.columns) & set(row)) for row in cells}
    if len(used) > 1:
        raise RequestError("all contents of a request must have parts of the same inputs", param="input")
    (inputs,) = used
    return next(iter(inputs)) if len(inputs) == 1 else None


def _encoded(vector: np.ndarray, encoding: str) -> Any:
    values = vector.astype("<f4")
    return base64.b64encode(values.tobytes()).decode("ascii") if encoding == "base64" else values.tolist()
