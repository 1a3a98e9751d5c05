"""`GET /v1/models`, `/v1/models/{name}`, `/health` and `/metrics`."""

from __future__ import annotations

from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from polymodal.serving.served_model import ServedModel
from polymodal.serving.state import ServiceState
from polymodal.tasks.base import Task


async def models(request: Request) -> JSONResponse:
    """List the models with their inputs and outputs."""
    state: ServiceState = request.app.state.service
    return JSONResponse({"object": "list", "data": [describe(one) for one in state.models.values()]})


async def model(request: Request) -> JSONResponse:
    """One model."""
    state: ServiceState = request.app.state.service
    return JSONResponse(describe(state.find(request.path_params["name"])))


async def health(request: Request) -> JSONResponse:
    """Whether the thread that computes is alive."""
    state: ServiceState = request.app.state.service
    alive = state.worker.is_alive()
    return JSONResponse({"status": "ok" if alive else "the worker has stopped"}, 200 if alive else 503)


async def metrics(request: Request) -> Response:
    """Measurements in the text format of Prometheus."""
    state: ServiceState = request.app.state.service
    return Response(state.metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})


def describe(served: ServedModel) -> dict[str, Any]:
    """A model in the form of OpenAI, with its modalities and columns."""
    inputs = [
        {"name": name, "modality": one.options.name, "columns": one.columns} for name, one in served.modalities.items()
    ]
    outputs = [{"name": name, "task": one.options.name, "columns": one.columns} for name, one in served.tasks.items()]
    modalities = sorted({one.options.name for one in served.modalities.values()})
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "polymodal",
        "architecture": {
            "input_modalities": modalities,
            "output_modalities": sorted({_modality(task) for task in served.tasks.values()}),
        },
        "inputs": inputs,
        "outputs": outputs,
        "columns": served.columns,
        "loaded": served.is_loaded,
    }


def _modality(task: Task) -> str:
    """`image` or `text` for what is generated, else the name of the task."""
    if not task.is_generative:
        return str(task.options.name)
    return "image" if task.space == "image" else "text"
