"""A decoding process: reads bunches of encoded media from its standard input, writes arrays to its standard output.

Every message is a four-byte length, a JSON header of that length, and the raw bytes that the header counts; no object
is ever unpickled. The first message holds the limits. A bunch is `{"requests": [[kind, fields], ...], "items":
[[request, bytes], ...]}` and the items' bytes. The answer is `{"ready": true}` as soon as the decoders are imported,
then one message an item, in order: `{"fields": {name: shape}, "seconds": s}` and the arrays, `{"reason": text}`,
`{"missing": text}` where a package is not installed, or `{"broken": text}` where a decoder does not keep to its layout.
The last answer says `"tired": true` when the process has kept so much memory that a new one should take its place.

Answers may be sent late and together, so a byte on the standard error marks the start of each item: whoever started
this process can tell what it died of. It dies by the alarm if an item takes longer than `limits.patience`, and ends
when its input closes. It is started without torch and pyarrow, and must stay so.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import time
from importlib import import_module
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from polymodal.core.errors import MissingExtraError
from polymodal.data.media.formats import check_format
from polymodal.data.media.source import MediaError
from polymodal.recipe.data import LimitOptions

KINDS = ("image", "audio", "video", "series", "probe")
"""Kind K is decoded by the module `polymodal.data.media.K`, whose requests are of class `KRequest`; a probe gives what
the header of a file of another kind says."""
MARK = b"\x01"
_LENGTH = struct.Struct("<I")
# Answers are collected up to so many bytes or seconds: fewer, larger messages wake the other side less often.
_COLLECTED_BYTES = 2**20
_COLLECTED_SECONDS = 0.02
# Address space that numpy, Pillow, FFmpeg and what else the decoders import take, rounded up.
_LIBRARIES = 256 * 2**20


def pack(header: dict[str, Any]) -> bytes:
    """The length and the header of a message."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return _LENGTH.pack(len(text)) + text


def decoder(kind: str) -> ModuleType:
    """The module that decodes media of a kind, imported when it is first asked for."""
    return import_module(f"polymodal.data.media.{kind}")


def main() -> None:
    source, sink, marks = _take_pipes()
    first = _read(source) or sys.exit()
    limits = LimitOptions.model_validate(first["limits"])
    allowed = _limit_memory(limits)
    while header := _read(source):
        requests = [_request(kind, fields) for kind, fields in header["requests"]]
        items = [(requests[number], source.read(size)) for number, size in header["items"]]
        _send(sink, [pack({"ready": True})])
        collected: list[Any] = []
        since, last = time.monotonic(), len(items) - 1
        for place, ((kind, module, request), data) in enumerate(items):
            os.write(marks, MARK)
            answer, arrays = _answer(kind, module, request, data, limits)
            if place == last and _mapped() > allowed:
                answer["tired"] = True
            collected += [pack(answer), *arrays]
            full = sum(len(part) for part in collected) >= _COLLECTED_BYTES
            if full or place == last or time.monotonic() - since >= _COLLECTED_SECONDS:
                _alarm(0)  # whoever reads may take its time
                _send(sink, collected)
                collected, since = [], time.monotonic()


def _take_pipes() -> tuple[BinaryIO, BinaryIO, int]:
    """The pipes to whoever started this process, out of reach of libraries that print or read the terminal."""
    source, sink, marks = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0), os.dup(2)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    return source, sink, marks


def _limit_memory(limits: LimitOptions) -> float:
    """Bound the memory of this process; gives the bytes above which it counts as worn out.

    `limits.memory` comes on top of what Python and the libraries map.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start, room = _mapped() + _LIBRARIES, limits.memory_mib * 2**20
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (start + room, start + room))
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return start + room / 2


def _alarm(seconds: float) -> None:
    """End this process after so many seconds, unless another alarm is set before; 0: never."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _mapped() -> int:
    """Address space of this process in bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _request(kind: str, fields: dict[str, Any]) -> tuple[str, ModuleType, Any]:
    if kind not in KINDS:
        raise ValueError(f"there is no kind of media called {kind!r}")
    module = decoder(kind)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return kind, module, getattr(module, f"{kind.title()}Request")(**values)


def _answer(
    kind: str, module: ModuleType, request: Any, data: bytes, limits: LimitOptions
) -> tuple[dict[str, Any], list[Any]]:
    """The header of one item's answer, and its arrays."""
    start = time.perf_counter()
    _alarm(limits.timeout_seconds)
    try:
        check_format(getattr(request, "media", kind), data)
        found = module.decode(data, request, limits)
        if wrong := _layout_mismatch(module.layout(request), found):
            return {"broken": f"the decoder of {kind} does not keep to its layout: {wrong}"}, []
        shapes = {name: array.shape for name, array in found.items()}
        arrays = [memoryview(array.ravel().view("u1")) for array in found.values()]
        return {"fields": shapes, "seconds": time.perf_counter() - start}, arrays
    except MediaError as error:
        return {"reason": str(error)}, []
    except MissingExtraError as error:
        return {"missing": str(error)}, []
    except MemoryError:
        return {"reason": f"decoding it takes more memory than the limit of {limits.memory_mib} MiB"}, []
    except Exception:  # noqa: BLE001  # a decoder may raise anything on damaged bytes; its own words are of no use to a user
        return {"reason": "the file is damaged or cannot be decoded"}, []


def _layout_mismatch(layout: dict[str, tuple[str, tuple[int, ...]]], found: dict[str, np.ndarray]) -> str:
    """How `found` differs from what `layout` promises; blank if it does not."""
    if found and found.keys() != layout.keys():
        return f"it gives {', '.join(found)} instead of {', '.join(layout)}"
    for name, array in found.items():
        dtype, record = layout[name]
        if array.dtype != np.dtype(dtype):
            return f"{name} is {array.dtype} instead of {dtype}"
        if record not in (array.shape, array.shape[1:]):
            return f"{name} is of shape {array.shape}; a record is of shape {record}"
    return ""


def _read(source: BinaryIO) -> dict[str, Any] | None:
    start = source.read(_LENGTH.size)
    if len(start) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(start)
    return json.loads(source.read(length))


def _send(sink: BinaryIO, parts: list[Any]) -> None:
    """Write the parts as one where they are small; a raw pipe may take only a piece at a time."""
    joined = [b"".join(parts)] if sum(map(len, parts)) <= 2 * _COLLECTED_BYTES else parts
    for part in joined:
        rest = memoryview(part)
        while rest:
            rest = rest[sink.write(rest) :]


if __name__ == "__main__":
    main()
