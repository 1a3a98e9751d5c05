"""The HTTP server: uvicorn with limits, that says when it accepts requests."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from polymodal.serving.app import make_app
from polymodal.serving.options import ServingOptions
from polymodal.serving.served_model import ServedModel

#: Largest size of the headers of a request, in bytes.
MAX_HEADERS = 16_384


class AnnouncedServer(uvicorn.Server):
    """The server of some models. It calls `announce` with its address when it accepts requests.

    It trusts no headers of proxies, upgrades no connections, and does not name its version.
    """

    def __init__(
        self,
        models: dict[str, ServedModel],
        options: ServingOptions,
        key: str | None,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        config = uvicorn.Config(
            make_app(models, options, key),
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=MAX_HEADERS,
            timeout_graceful_shutdown=options.shutdown_seconds,
        )
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept requests, and announce the address."""
        await super().startup(sockets)
        if self.started and self._announce is not None and sockets:
            host, port = sockets[0].getsockname()[:2]
            self._announce(f"http://{f'[{host}]' if ':' in host else host}:{port}")
