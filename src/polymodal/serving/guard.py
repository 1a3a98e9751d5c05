"""The first layer of the service: request ids, the key, the host, the number of requests, the log and measurements."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
import traceback
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polymodal.core.errors import ArtifactError, MissingExtraError
from polymodal.serving.errors import RequestError, error_response, request_error
from polymodal.serving.metrics import ServiceMetrics
from polymodal.serving.options import ServingOptions

log = logging.getLogger("polymodal.serving")
#: Routes that are open without the key: they tell only that the service is alive.
OPEN_ROUTES = ("/health",)
#: Errors that only the operator can mend; their messages quote no cells.
OF_THE_OPERATOR = (ArtifactError, MissingExtraError)
#: Names by which programs of this machine reach the service.
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]", "::1")


class Guard:
    """Wraps the application.

    - Every response has an `x-request-id`, and every request one line in the log: a JSON object without user content.
    - With a key, every route but `/health` needs `Authorization: Bearer KEY`. Digests are compared in constant time.
    - Without a key, the `Host` must be one of this machine. So no web page reaches the service by a name of its own
      that resolves to this machine (DNS rebinding).
    - At most `max_requests` requests with a body are read, computed or wait at once; further ones get status 429.
    - An exception that nobody has answered is logged by its type and place, and the client gets status 500.
    """

    def __init__(self, app: ASGIApp, options: ServingOptions, key: str | None, metrics: ServiceMetrics) -> None:
        self.app, self.options, self.metrics = app, options, metrics
        self._digest = None if key is None else _digest(key)
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, started, status = uuid.uuid4().hex, time.monotonic(), 0
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        counted = scope["method"] == "POST"
        try:
            self._check(scope, counted)
        except RequestError as error:
            self.metrics.rejected.labels(error.code).inc()
            await error_response(error)(scope, receive, send_with_id)
        else:
            self._count(+1 if counted else 0)
            try:
                await self.app(scope, receive, send_with_id)
            except Exception as error:  # noqa: BLE001  # of any kind: it is logged, and the client gets status 500
                log_exception(error, request_id)
                if not status:
                    await error_response(request_error(error))(scope, receive, send_with_id)
            finally:
                self._count(-1 if counted else 0)
        finally:
            self._record(scope, request_id, status, time.monotonic() - started)

    def _check(self, scope: Scope, counted: bool) -> None:
        """Check who asks, and whether there is room.

        Raises:
            RequestError: the key is wrong, the host is foreign, or the service is busy.
        """
        headers = Headers(scope=scope)
        if self._digest is None:
            host = headers.get("host", "")
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            if name.lower() not in LOCAL_HOSTS:
                raise RequestError("without a key, the service answers this machine only", status=403, code="host")
        elif scope["path"] not in OPEN_ROUTES:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            same = hmac.compare_digest(_digest(given.strip()), self._digest)
            if scheme.lower() != "bearer" or not same:
                raise RequestError("the key is missing or wrong", status=401, code="invalid_api_key")
        if counted and self._active >= self.options.max_requests:
            raise RequestError("the service is busy; try again", status=429, code="busy")

    def _count(self, change: int) -> None:
        self._active += change
        self.metrics.active.set(self._active)

    def _record(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")  # the path itself is content of the client
        method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"
        self.metrics.requests.labels(route, str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        log_event(logging.INFO, "request", id=request_id, method=method, route=route, status=status, seconds=seconds)


def log_event(level: int, event: str, **values: Any) -> None:
    """One line of the log: a JSON object."""
    seconds = {"seconds": round(values.pop("seconds"), 4)} if "seconds" in values else {}
    log.log(level, "%s", json.dumps({"time": round(time.time(), 3), "event": event, **values, **seconds}))


def log_exception(error: Exception, request_id: str) -> None:
    """Log the type of an exception and the lines of code that led to it. Its message may quote cells, so it is left
    out, unless it is about the installation or a model directory."""
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    told = {"message": str(error)} if isinstance(error, OF_THE_OPERATOR) else {}
    log_event(logging.ERROR, "exception", id=request_id, type=type(error).__name__, **told, places=places[-8:])


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
