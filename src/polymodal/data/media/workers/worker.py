"""A decoding process: reads batches of encoded media from its standard input and writes arrays to its standard output.

Every message is a four-byte length, a JSON header of that length, and the raw bytes that the header counts. No object
is ever unpickled. The first message has the limits. A batch is `{"requests": [[kind, fields], ...], "items": [[request,
bytes], ...]}` and the bytes of the items. The answer is `{"ready": true}` as soon as the decoders are imported, then
one message per item, in order: `{"fields": {name: shape}, "seconds": s}` and the arrays, `{"reason": text}`,
`{"missing_package": text}` if a package is not installed, or `{"layout_error": text}` if a decoder does not follow its
layout. The last answer has `"recycle": true` if the process has kept so much memory that a new one should replace it.

Answers may be sent late and together. A byte on the standard error marks the start of each item, so that the parent
knows on which item the process died. The process kills itself by an alarm if an item takes longer than
`limits.timeout_seconds`, and ends when its input closes. It must not import torch and pyarrow.
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

KINDS = ("image", "audio", "video", "time_series", "probe")
"""Kind K is decoded by the module `polymodal.data.media.K`, whose request class is `KRequest` (K in camel case). A
probe reads the header of a file of another kind."""
START_MARK = b"\x01"
_LENGTH = struct.Struct("<I")
# Answers are collected up to this many bytes or seconds: fewer, larger messages wake the parent less often.
_COLLECTED_BYTES = 2**20
_COLLECTED_SECONDS = 0.02
# Address space of numpy, Pillow, FFmpeg and the other libraries of the decoders, rounded up.
_LIBRARIES = 256 * 2**20


def pack_message(header: dict[str, Any]) -> bytes:
    """The length and the header of a message."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return _LENGTH.pack(len(text)) + text


def decoder_module(kind: str) -> ModuleType:
    """The module that decodes a kind of media, imported on first use."""
    return import_module(f"polymodal.data.media.{kind}")


def main() -> None:
    source, sink, marks = _take_pipes()
    first = _read(source) or sys.exit()
    limits = LimitOptions.model_validate(first["limits"])
    allowed = _limit_memory(limits)
    while header := _read(source):
        requests = [_request(kind, fields) for kind, fields in header["requests"]]
        items = [(requests[number], source.read(size)) for number, size in header["items"]]
        _send(sink, [pack_message({"ready": True})])
        collected: list[Any] = []
        since, last = time.monotonic(), len(items) - 1
        for position, ((kind, module, request), data) in enumerate(items):
            os.write(marks, START_MARK)
            answer, arrays = _answer(kind, module, request, data, limits)
            if position == last and _mapped() > allowed:
                answer["recycle"] = True
            collected += [pack_message(answer), *arrays]
            full = sum(len(part) for part in collected) >= _COLLECTED_BYTES
            if full or position == last or time.monotonic() - since >= _COLLECTED_SECONDS:
                _alarm(0)  # the reader may be slow
                _send(sink, collected)
                collected, since = [], time.monotonic()


def _take_pipes() -> tuple[BinaryIO, BinaryIO, int]:
    """The pipes to the parent, moved so that libraries that print or read the terminal cannot use them."""
    source, sink, marks = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0), os.dup(2)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    return source, sink, marks


def _limit_memory(limits: LimitOptions) -> float:
    """Limit the memory of this process. Returns the bytes above which it should be recycled.

    `limits.memory_mib` comes on top of the address space of Python and the libraries.
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
    """Kill this process after `seconds`, unless another alarm is set before; 0: never."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _mapped() -> int:
    """Address space of this process in bytes; 0 if unknown."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _request(kind: str, fields: dict[str, Any]) -> tuple[str, ModuleType, Any]:
    if kind not in KINDS:
        raise ValueError(f"unknown kind of media {kind!r}")
    module = decoder_module(kind)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return kind, module, getattr(module, f"{kind.title().replace('_', '')}Request")(**values)


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
            return {"layout_error": f"the decoder of {kind} does not follow its layout: {wrong}"}, []
        shapes = {name: array.shape for name, array in found.items()}
        arrays = [memoryview(array.ravel().view("u1")) for array in found.values()]
        return {"fields": shapes, "seconds": time.perf_counter() - start}, arrays
    except MediaError as error:
        return {"reason": str(error)}, []
    except MissingExtraError as error:
        return {"missing_package": str(error)}, []
    except MemoryError:
        return {"reason": f"decoding needs more memory than the limit of {limits.memory_mib} MiB"}, []
    except Exception:  # noqa: BLE001  # a decoder may raise anything on damaged bytes, with messages that do not help a user
        return {"reason": "the file is damaged or cannot be decoded"}, []


def _layout_mismatch(layout: dict[str, tuple[str, tuple[int, ...]]], found: dict[str, np.ndarray]) -> str:
    """How `found` differs from `layout`; blank if it does not."""
    if found and found.keys() != layout.keys():
        return f"it returns {', '.join(found)} instead of {', '.join(layout)}"
    for name, array in found.items():
        dtype, record = layout[name]
        if array.dtype != np.dtype(dtype):
            return f"{name} is {array.dtype} instead of {dtype}"
        if record not in (array.shape, array.shape[1:]):
            return f"{name} has shape {array.shape}; a record has shape {record}"
    return ""


def _read(source: BinaryIO) -> dict[str, Any] | None:
    start = source.read(_LENGTH.size)
    if len(start) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(start)
    return json.loads(source.read(length))


def _send(sink: BinaryIO, parts: list[Any]) -> None:
    """Write the parts in one call if they are small. A raw pipe may accept only part of the data at a time."""
    joined = [b"".join(parts)] if sum(map(len, parts)) <= 2 * _COLLECTED_BYTES else parts
    for part in joined:
        rest = memoryview(part)
        while rest:
            rest = rest[sink.write(rest) :]


if __name__ == "__main__":
    main()
