"""The application: routes, errors in one form, and the worker from start to end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from polymodal.core.errors import PolymodalError
from polymodal.serving.errors import RequestError, error_response, request_error
from polymodal.serving.guard import Guard, log_exception
from polymodal.serving.options import ServingOptions
from polymodal.serving.routes.chat import chat_completions
from polymodal.serving.routes.decisions import decisions
from polymodal.serving.routes.embeddings import embeddings
from polymodal.serving.routes.models import health, metrics, model, models
from polymodal.serving.routes.predict import predict
from polymodal.serving.routes.transcriptions import transcriptions
from polymodal.serving.served_model import ServedModel
from polymodal.serving.state import ServiceState

ROUTES = [
    Route("/v1/predict", predict, methods=["POST"]),
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/embeddings", embeddings, methods=["POST"]),
    Route("/v1/audio/transcriptions", transcriptions, methods=["POST"]),
    Route("/v1/decisions", decisions, methods=["POST"]),
    Route("/v1/models", models, methods=["GET"]),
    Route("/v1/models/{name}", model, methods=["GET"]),
    Route("/health", health, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
]


def make_app(models: dict[str, ServedModel], options: ServingOptions, key: str | None) -> Guard:
    """The application of some models, for any ASGI server.

    key: the key that requests must give; None: none, and only this machine is answered
    """
    state = ServiceState(models, options)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        state.worker.start()
        yield
        await run_in_threadpool(state.worker.stop)

    app = Starlette(
        routes=ROUTES,
        lifespan=lifespan,
        exception_handlers={
            PolymodalError: _known_error,
            HTTPException: _http_error,
            Exception: _unknown_error,
        },
    )
    app.state.service = state
    app.router.redirect_slashes = False
    return Guard(app, options, key, state.metrics)


async def _known_error(request: Request, error: Exception) -> Response:
    told = request_error(error)
    if told.status >= 500 and not isinstance(error, RequestError):
        log_exception(error, request.scope["state"]["request_id"])
    return error_response(told)


async def _unknown_error(request: Request, error: Exception) -> Response:
    """Starlette raises the error again afterwards, and `Guard` logs it."""
    return error_response(request_error(error))


async def _http_error(request: Request, error: Exception) -> Response:
    """Errors of the routing: no such address, or no such method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    names = {404: "there is no such address", 405: "the address has no such method"}
    return error_response(RequestError(names.get(status, "the request is wrong"), status=status))
