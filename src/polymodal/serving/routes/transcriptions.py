"""`POST /v1/audio/transcriptions`: the text of a recording, with times."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from polymodal.core.options import StrictModel
from polymodal.recipe.validation_errors import problems
from polymodal.serving.bodies import read_form
from polymodal.serving.errors import RequestError
from polymodal.serving.operations.transcription import TranscribeRows, Transcript
from polymodal.serving.rows import read_rows
from polymodal.serving.state import ServiceState

#: The numbers of a form, which holds texts.
NUMBERS = ("temperature",)


class TranscriptionForm(StrictModel):
    """A recording to transcribe. A field that has no effect here is an error, not ignored."""

    model: str | None = None
    """Name of the model; not needed if there is only one."""
    file: bytes
    """A sound, or a video with sound."""
    response_format: Literal["json", "text", "verbose_json", "srt", "vtt"] = "json"
    temperature: float | None = Field(default=None, ge=0, le=10)
    granularity: Literal["segment"] = Field(default="segment", alias="timestamp_granularities[]")
    """Words have no times."""


async def transcriptions(request: Request) -> Response:
    """Answer a form with the text of its recording."""
    state: ServiceState = request.app.state.service
    form = _read(await read_form(request, state.options))
    served = state.find(form.model)
    output, _ = served.text_task(None)
    columns = served.columns_of("audio")
    if len(columns) != 1:
        raise RequestError(
            f"the model {served.name!r} has {len(columns)} audio inputs; transcripts need one", param="model"
        )
    rows = read_rows([{columns[0]: form.file}], served)
    operation = TranscribeRows(output, columns[0], form.temperature)
    (transcript,) = await state.compute(request, served, operation, rows)
    return _response(transcript, form.response_format)


def _read(fields: dict[str, Any]) -> TranscriptionForm:
    try:
        given = {key: float(value) if key in NUMBERS else value for key, value in fields.items()}
    except (TypeError, ValueError):
        raise RequestError("temperature: it must be a number", param="temperature") from None
    try:
        return TranscriptionForm.model_validate(given)
    except ValidationError as error:
        first = problems(TranscriptionForm, error)[0]
        path = ".".join(map(str, first.path))
        raise RequestError(f"{path}: {first.text}", code="invalid_request", param=path) from None


def _response(transcript: Transcript, form: str) -> Response:
    segments = transcript.segments
    if form == "text":
        return PlainTextResponse(f"{transcript.text}\n")
    if form == "srt":
        parts = [
            f"{number}\n{_clock(one.start, ',')} --> {_clock(one.end, ',')}\n{one.text}\n"
            for number, one in enumerate(segments, start=1)
        ]
        return PlainTextResponse("\n".join(parts))
    if form == "vtt":
        parts = [f"{_clock(one.start, '.')} --> {_clock(one.end, '.')}\n{one.text}\n" for one in segments]
        return PlainTextResponse("\n".join(["WEBVTT\n", *parts]))
    found: dict[str, Any] = {"text": transcript.text, "usage": {"type": "duration", "seconds": transcript.seconds}}
    if form == "verbose_json":
        listed = [{"id": n, "start": one.start, "end": one.end, "text": one.text} for n, one in enumerate(segments)]
        found |= {"task": "transcribe", "duration": transcript.seconds, "segments": listed}
    return JSONResponse(found)


def _clock(seconds: float, point: str) -> str:
    """A time as `00:01:02,500`.

    Example:
        >>> _clock(62.5, ",")
        '00:01:02,500'
    """
    thousandths = round(seconds * 1000)
    hours, rest = divmod(thousandths, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"
