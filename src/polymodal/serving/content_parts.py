"""Content parts of messages: texts, images, sounds and videos, in the forms of OpenAI clients, as cells of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polymodal.core.errors import did_you_mean
from polymodal.serving.errors import RequestError
from polymodal.serving.rows import Row
from polymodal.serving.served_model import ServedModel

#: Largest number of parts of one message.
MAX_PARTS = 64
TEXTS = ("text", "input_text", "output_text")
#: The modality of each part with media. `input_audio` holds base64 and a format, the others an address.
MEDIA = {
    "image_url": "image",
    "input_image": "image",
    "input_audio": "audio",
    "audio_url": "audio",
    "video_url": "video",
    "input_video": "video",
}


@dataclass(frozen=True)
class Content:
    """The content of a message: its text, and its media as pairs of modality and `data:` address."""

    text: str
    media: Sequence[tuple[str, str]]


def read_content(content: Any, path: str) -> Content:
    """The content of a message: a text, or a list of parts. Texts of several parts are joined by line breaks.

    path: the key of the content in the request

    Raises:
        RequestError: a part is of an unknown type, or is incomplete.

    Example:
        >>> read_content([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "content").text
        'a\\nb'
    """
    if isinstance(content, str):
        return Content(content, ())
    if not isinstance(content, list) or not content:
        raise RequestError(f"{path} must be a text or a list of parts", param=path)
    if len(content) > MAX_PARTS:
        raise RequestError(f"{path} has {len(content)} parts; at most {MAX_PARTS} are read", param=path)
    texts: list[str] = []
    media: list[tuple[str, str]] = []
    for number, part in enumerate(content):
        own = f"{path}.{number}"
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in TEXTS:
            texts.append(_text(part.get("text"), f"{own}.text"))
        elif kind in MEDIA:
            media.append((MEDIA[kind], _address(part, str(kind), own)))
        else:
            hint = did_you_mean(str(kind), (*TEXTS, *MEDIA))
            raise RequestError(f"{own}: there is no part of type {kind!r}; {hint}", param=own)
    return Content("\n".join(texts), media)


def media_cells(media: Sequence[tuple[str, str]], served: ServedModel) -> Row:
    """The media as cells of a row: those of a modality in the order of its columns.

    Raises:
        RequestError: the model has fewer inputs of a modality.
    """
    row: Row = {}
    for modality in dict(media):
        given = [address for kind, address in media if kind == modality]
        columns = served.columns_of(modality)
        if len(given) > len(columns):
            takes = f"it takes {len(columns)}" if columns else "it takes none"
            raise RequestError(
                f"the model {served.name!r} is given {len(given)} parts of {modality}; {takes}",
                code="unsupported_content",
                param="content",
            )
        row |= dict(zip(columns, given, strict=False))
    return row


def text_cell(text: str, served: ServedModel) -> Row:
    """The text as the cell of the only text input; no cell for an empty text.

    Raises:
        RequestError: the model has no text input, or several.
    """
    columns = served.columns_of("text")
    if text and len(columns) != 1:
        takes = f"has the text inputs {', '.join(columns)}: give a row" if columns else "takes no text"
        raise RequestError(f"the model {served.name!r} {takes}", code="unsupported_content", param="content")
    return {columns[0]: text} if text else {}


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise RequestError(f"{path} must be a text", param=path)
    return value


def _address(part: Mapping[str, Any], kind: str, path: str) -> str:
    """The `data:` address of a part. Every other address is refused: the service reads no files and no addresses."""
    value = part.get(kind, part.get("image_url") if kind == "input_image" else None)
    if isinstance(value, Mapping):
        if "data" in value:
            return f"data:;base64,{_text(value['data'], f'{path}.data')}"
        value = value.get("url")
    address = _text(value, path)
    if address[:5].lower() != "data:":
        raise RequestError(
            f"{path}: media are sent as base64 in a data: address; paths and other addresses are not read",
            code="unsupported_address",
            param=path,
        )
    return address
