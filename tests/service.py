"""Services on loopback, on ports that the system chooses, and media as requests send them."""

from __future__ import annotations

import base64
import io
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from polymodal.serving.options import ServingOptions
from polymodal.serving.served_model import ServedModel
from polymodal.serving.server import AnnouncedServer
from polymodal.serving.service import open_socket

ROWS = 24
KEY = "a-key-of-the-tests"
MODALITIES = ["text", "image", "number", "category", "audio", "time_series", "datetime"]


def png(picture: Image.Image) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def data_address(data: bytes, kind: str = "application/octet-stream") -> str:
    """Bytes as base64 in a `data:` address."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer, in the form of OpenAI clients."""
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    return dict(body["error"])


@contextmanager
def running(models: dict[str, Path], key: str | None = None, **options: Any) -> Iterator[str]:
    """The address of a service of these models."""
    chosen = ServingOptions(port=0, **options)
    served = {name: ServedModel(name, folder, "cpu") for name, folder in models.items()}
    addresses: queue.Queue[str] = queue.Queue()
    with open_socket(chosen) as listening:
        server = AnnouncedServer(served, chosen, key, addresses.put)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield addresses.get(timeout=60)
        finally:
            server.should_exit = True
            thread.join()
