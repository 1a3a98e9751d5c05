"""Bodies of requests: read up to a limit and within a time, parsed outside of the event loop, and checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, ParamSpec, TypeVar

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from polymodal.core.options import StrictModel
from polymodal.core.yaml_json import TextFormatError, read_json
from polymodal.recipe.validation_errors import problems
from polymodal.serving.errors import RequestError
from polymodal.serving.options import ServingOptions

#: Parts of one form.
MAX_PARTS = 256
#: Values of a JSON body, whose objects need many times the memory of their text.
MAX_VALUES = 1_000_000
#: Bodies up to this many times the limit are read to their end and discarded. A connection that is closed before could
#: be reset before the client has read why.
DISCARDED = 4
#: Bodies up to this size are parsed at once; larger ones in a thread, so that the event loop goes on.
INLINE_BYTES = 65_536

Body = TypeVar("Body", bound=StrictModel)
P = ParamSpec("P")
R = TypeVar("R")


async def read_body(request: Request, options: ServingOptions) -> bytes:
    """The body of a request.

    Raises:
        RequestError: it is over the limit, or does not arrive in time.
    """
    limit = int(options.max_body_mib * 2**20)
    too_large = RequestError(
        f"the body is over the limit of {options.max_body_mib:g} MiB", status=413, code="body_too_large"
    )
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > DISCARDED * limit:
        raise too_large
    chunks, size = [], 0
    try:
        async with asyncio.timeout(options.body_seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > DISCARDED * limit:
                    raise too_large
                if size <= limit:
                    chunks.append(chunk)
                else:
                    chunks.clear()
    except TimeoutError:
        raise RequestError(
            f"the body did not arrive within {options.body_seconds:g} s", status=408, code="body_timeout"
        ) from None
    except ClientDisconnect:
        raise RequestError("the client has gone", code="client_gone") from None
    if size > limit:
        raise too_large
    return b"".join(chunks)


async def read_json_body(request: Request, options: ServingOptions, model: type[Body]) -> Body:
    """The JSON body of a request as `model`.

    Raises:
        RequestError: it is not JSON, has an unknown key, or a value of a wrong type.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError("the content type must be application/json", status=415, code="unsupported_media_type")
    data = await read_body(request, options)
    return await off_loop(len(data), _parse, data, model)


async def off_loop(size: int, function: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
    """The result of a function on data of `size` bytes, computed in a thread if they are many."""
    return await run_in_threadpool(function, *given, **named) if size > INLINE_BYTES else function(*given, **named)


def body_size(request: Request) -> int:
    """The size of a body that has been read, in bytes; if it was sent in chunks, as if it were large."""
    return int(request.headers.get("content-length", INLINE_BYTES + 1))


def _parse(data: bytes, model: type[Body]) -> Body:
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise RequestError(f"the body has more than {MAX_VALUES:,} values", status=413, code="body_too_large")
    try:
        value = read_json(data.decode("utf-8"))
    except (TextFormatError, UnicodeDecodeError) as error:
        problem = str(error) if isinstance(error, TextFormatError) else "it is not UTF-8"
        raise RequestError(f"the body is not valid JSON: {problem}", code="invalid_json") from None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = problems(model, error)[0]
        path = ".".join(map(str, first.path))
        where = f"{path}: " if path else "the body: "
        raise RequestError(where + first.text, code="invalid_request", param=path or None) from None


async def read_form(request: Request, options: ServingOptions) -> dict[str, Any]:
    """The fields of a multipart form: texts, and the bytes of files. The names of files are ignored.

    Raises:
        RequestError: it is no form, has a field twice, or is over a limit.
    """
    data = await read_body(request, options)

    async def once() -> AsyncIterator[bytes]:
        yield data

    limits = {"max_files": MAX_PARTS, "max_fields": MAX_PARTS}
    try:
        parser = MultiPartParser(request.headers, once(), **limits, max_part_size=len(data) + 1)  # type: ignore[arg-type]
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        problem = error.message if isinstance(error, MultiPartException) else "its boundary or a header is wrong"
        raise RequestError(f"the form cannot be read: {problem}", code="invalid_form") from None
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name in fields:
            raise RequestError(f"the form has the field {name!r} twice", code="invalid_form", param=name)
        fields[name] = await value.read() if isinstance(value, UploadFile) else value
    await form.close()
    return fields
