"""Options of the service."""

from __future__ import annotations

import ipaddress

from pydantic import Field

from polymodal.core.options import StrictModel


class ServingOptions(StrictModel):
    """Address and limits of the service. A request over a limit is refused; it is never cut.

    Example:
        >>> ServingOptions(port=0).is_loopback
        True
        >>> ServingOptions(host="0.0.0.0").is_loopback
        False
    """

    host: str = "127.0.0.1"
    """Address to listen on. An address that other machines reach needs a key."""
    port: int = Field(default=8000, ge=0, le=65_535)
    """Port to listen on; 0: a free port that the system chooses."""
    device: str = "auto"
    """Device of all models: `cpu`, `cuda`, `cuda:1`, `mps`; `auto` uses an accelerator if there is one."""
    preload: bool = False
    """Load all models before the first request. Default: a model is loaded with its first request."""
    max_requests: int = Field(default=64, ge=1, le=65_536)
    """Requests that are computed or wait at once. Further ones get status 429 with `retry-after`."""
    max_rows: int = Field(default=256, ge=1)
    """Rows, or texts to embed, of one request."""
    max_batch_rows: int = Field(default=64, ge=1)
    """Rows of several requests that are computed together."""
    max_body_mib: float = Field(default=16.0, gt=0)
    """Size of the body of a request, in MiB."""
    max_new_tokens: int = Field(default=1_024, ge=1)
    """Tokens that a request may generate for one text."""
    body_seconds: float = Field(default=30.0, gt=0)
    """Seconds in which the body of a request must arrive."""
    shutdown_seconds: int = Field(default=30, ge=1)
    """Seconds in which requests end after SIGTERM, before they are stopped."""

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine reach the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
