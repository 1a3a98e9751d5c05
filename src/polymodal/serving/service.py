"""`serve`: the service from start to end, on a socket of this machine."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from polymodal.core.errors import MissingExtraError, PolymodalError, RecipeError
from polymodal.serving.options import ServingOptions

#: Environment variable with the key.
KEY_VARIABLE = "POLYMODAL_API_KEY"
#: Shortest key, in characters.
MIN_KEY = 16


def serve(
    models: Mapping[str, Path],
    options: ServingOptions | None = None,
    *,
    key: str | None = None,
    started: Callable[[str], None] | None = None,
) -> None:
    """Serve models over HTTP until SIGTERM or Ctrl-C. Requests that are being computed end first.

    models: model directories by the names that clients use
    key: the key that requests must give as `Authorization: Bearer KEY`; None: no key
    started: called with the address when requests are accepted

    Raises:
        RecipeError: the address is reached by other machines and there is no key, the key is too short, the port is in
            use, or there is no model.
        ArtifactError: a folder holds no model.
        MissingExtraError: the extra `serve` is not installed.
    """
    options = options or ServingOptions()
    if not models:
        raise RecipeError("models", "give at least one model directory")
    if key is None and not options.is_loopback:
        raise RecipeError(
            "host",
            f"other machines may reach {options.host}, so the service needs a key: set {KEY_VARIABLE} to a secret",
        )
    if key is not None and len(key) < MIN_KEY:
        raise RecipeError(KEY_VARIABLE, f"the key must have at least {MIN_KEY} characters")
    try:
        from polymodal.serving.server import AnnouncedServer
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "polymodal":
            raise
        raise MissingExtraError(error.name or "uvicorn", "serve", "the service") from None
    from polymodal.runtime.compute import resolve_device
    from polymodal.serving.served_model import ServedModel

    device = resolve_device(options.device, "device")
    served = {name: ServedModel(name, folder, device) for name, folder in models.items()}
    for one in served.values() if options.preload else ():
        one.load()
    with open_socket(options) as listening, _log_to_stderr(), _signals_end_quietly():
        server = AnnouncedServer(served, options, key, started)
        server.run(sockets=[listening])
    if not server.started:
        raise PolymodalError("the service did not start; the log names the cause")


@contextmanager
def open_socket(options: ServingOptions) -> Iterator[socket.socket]:
    """A socket that listens on the address of the options.

    Raises:
        RecipeError: the address does not exist on this machine, or its port is in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError):
        raise RecipeError("host", f"{options.host!r} is no address of this machine") from None
    with listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
        except OSError as error:
            raise RecipeError("port", f"cannot listen on {options.host}:{options.port}: {error.strerror}") from None
        yield listening


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """The lines of the log go to standard error, as they are."""
    log, handler = logging.getLogger("polymodal.serving"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.level, log.propagate = before


@contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """SIGTERM and Ctrl-C are the usual end of a service. The server raises them again when it has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ended(number: int, frame: FrameType | None) -> None:
        """The server has already ended."""

    before = {number: signal.signal(number, ended) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
