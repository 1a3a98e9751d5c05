"""`python -m benchmarks.serving_reference MODEL`: the service that one writes by hand, a route that calls the model."""

from __future__ import annotations

import socket
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import polymodal


def make_app(folder: str) -> Starlette:
    """A route that predicts the rows of each request in a thread of a pool, as FastAPI does with plain functions."""
    model = polymodal.load(folder)

    async def predict(request: Request) -> JSONResponse:
        rows = (await request.json())["rows"]
        return JSONResponse({"predictions": await run_in_threadpool(model.predict, rows)})

    return Starlette(routes=[Route("/v1/predict", predict, methods=["POST"])])


def main() -> None:
    """Serve the model in `sys.argv[1]` on a free port, and print the address."""
    app = make_app(sys.argv[1])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        print(f"reference at http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])


if __name__ == "__main__":
    main()
