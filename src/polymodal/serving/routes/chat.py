"""`POST /v1/chat/completions`: texts of a model that generates texts, whole or while they are generated."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from polymodal.core.options import MAX_SEED, StrictModel
from polymodal.serving.bodies import body_size, off_loop, read_json_body
from polymodal.serving.chat_messages import ChatMessageBody, chat_row
from polymodal.serving.errors import RequestError, error_response, request_error
from polymodal.serving.generation_settings import ResponseFormat, generation_settings
from polymodal.serving.guard import log_exception
from polymodal.serving.jobs import TextStream
from polymodal.serving.operations.generation import GeneratedTexts, GenerateTexts
from polymodal.serving.rows import read_rows
from polymodal.serving.state import ServiceState

#: The names of OpenAI for the ends of a text.
FINISH_REASONS = {"end": "stop", "stop": "stop", "length": "length"}
#: Texts of one request.
MAX_TEXTS = 8


class StreamOptions(StrictModel):
    """Options of a stream."""

    include_usage: bool = False
    """Send the numbers of tokens at the end."""


class ChatBody(StrictModel):
    """A chat to continue. A key that has no effect here is an error, not ignored."""

    model: str | None = None
    """Name of the model; not needed if there is only one."""
    messages: list[ChatMessageBody] = Field(min_length=1, max_length=256)
    output: str | None = None
    """The text output, if the model has several."""
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=10)
    top_p: float | None = Field(default=None, gt=0, le=1)
    n: int = Field(default=1, ge=1, le=MAX_TEXTS)
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)
    response_format: ResponseFormat | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    """Accepted for clients that send it; it has no meaning here."""


async def chat_completions(request: Request) -> Response:
    """Answer a chat: one JSON object, or with `stream` events with its parts."""
    state: ServiceState = request.app.state.service
    body = await read_json_body(request, state.options, ChatBody)
    served = state.find(body.model)
    name, task = served.text_task(body.output)
    changes = generation_settings(body, task.options.generation, state.options.max_new_tokens)
    operation = GenerateTexts(name, json.dumps(changes, sort_keys=True))
    rows = await off_loop(body_size(request), lambda: read_rows([chat_row(body.messages, served, task)], served))
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": served.name}
    if body.stream:
        stream = TextStream(served, operation, rows[0])
        state.worker.submit_stream(stream)
        first = await stream.events.get()
        if isinstance(first, Exception):
            raise first
        usage = body.stream_options is not None and body.stream_options.include_usage
        events = _events(state, stream, first, head, usage)
        return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-store"})
    (answer,) = await state.compute(request, served, operation, rows)
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": one.text, "refusal": None},
            "finish_reason": FINISH_REASONS[one.finish_reason],
            "logprobs": None,
        }
        for index, one in enumerate(answer.texts)
    ]
    return JSONResponse({**head, "object": "chat.completion", "choices": choices, "usage": _usage(state, answer)})


async def _events(
    state: ServiceState, stream: TextStream, event: str | GeneratedTexts | Exception, head: dict[str, Any], usage: bool
) -> AsyncIterator[str]:
    """The events of a stream, as OpenAI clients expect them."""
    chunk = {**head, "object": "chat.completion.chunk"}

    def choice(delta: dict[str, Any], finish_reason: str | None = None) -> str:
        return _event({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})

    try:
        yield choice({"role": "assistant", "content": ""})
        while isinstance(event, str):
            yield choice({"content": event})
            event = await stream.events.get()
        if isinstance(event, Exception):
            if not isinstance(event, RequestError):
                log_exception(event, head["id"])
            yield f"data: {bytes(error_response(request_error(event)).body).decode()}\n\n"
            return
        yield choice({}, FINISH_REASONS[event.texts[0].finish_reason])
        tokens = _usage(state, event)
        if usage:
            yield _event({**chunk, "choices": [], "usage": tokens})
        yield "data: [DONE]\n\n"
    finally:
        stream.abandoned = True


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _usage(state: ServiceState, answer: GeneratedTexts) -> dict[str, int]:
    """The numbers of tokens of an answer, which are also counted."""
    generated = sum(len(one.tokens) for one in answer.texts)
    state.metrics.tokens.inc(generated)
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": generated,
        "total_tokens": answer.prompt_tokens + generated,
    }
