"""Embed a query (a text, a media file or a row) with the model of an index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from polymodal.applications.search.embedding_source import check_input, comparable_inputs
from polymodal.applications.search.manifest import EmbeddingSource
from polymodal.core.errors import DataError
from polymodal.core.yaml_json import TextFormatError, read_json
from polymodal.data.media.formats import (
    AUDIO_SUFFIXES,
    FORMATS,
    IMAGE_SUFFIXES,
    SERIES_SUFFIXES,
    VIDEO_SUFFIXES,
    detect_format,
)
from polymodal.data.media.source import MediaError, read_bytes
from polymodal.modalities.media import MediaModality
from polymodal.modalities.text import Text
from polymodal.model.model import Model

_SUFFIXES = {"image": IMAGE_SUFFIXES, "audio": AUDIO_SUFFIXES, "video": VIDEO_SUFFIXES, "time_series": SERIES_SUFFIXES}
_NOUNS = {
    "image": "an image",
    "audio": "an audio file",
    "video": "a video",
    "time_series": "a time series",
    "text": "a text",
}


def embed_query(
    model: Model, source: EmbeddingSource, query: Any, *, input: str | None = None, root: Path | str | None = None
) -> np.ndarray:
    """The embedding `[1, dim]` of a query, to compare with the rows of an index.

    query: the path of an existing file, encoded by the input of its media type; a row as a dict or as JSON, encoded by
        the inputs whose columns it has; or any other text, encoded by the text input
    input: the input that encodes the query, if several can
    root: paths in a row are relative to this folder

    Raises:
        DataError: no input or several inputs can encode the query, or it cannot be decoded.
        RecipeError: the model has no such input.
    """
    check_input(model, input)
    names = comparable_inputs(model, source.input)
    is_whole_row = source.input is None and not names
    candidates = list(model.recipe.inputs) if is_whole_row else names
    if input is not None and input not in candidates:
        raise DataError(
            f"embeddings of the input {input!r} cannot be compared with the rows of the index; {_of(candidates)} can"
        )
    candidates = [input] if input is not None else candidates
    row = _row(query)
    if row is not None:
        inputs = _inputs_of_row(model, candidates, row)
    else:
        name, cell, root = _input_of_cell(model, candidates, str(query))
        row, inputs = {_column(model, name): cell}, [name]
    if is_whole_row or len(inputs) > 1:
        row = {**dict.fromkeys(model.preparation.input_columns), **row}
        inputs = [""]
    vector = model.embed([row], input=inputs[0] or None, dim=source.dim, root=root, strict=True)
    if np.isnan(vector).any():
        raise DataError("the query is empty for the input that encodes it")
    return vector


def _row(query: Any) -> dict[str, Any] | None:
    """The query as a row; None if it is not a row."""
    if isinstance(query, dict):
        return query
    if isinstance(query, str) and query.lstrip().startswith("{"):
        try:
            row = read_json(query)
        except TextFormatError as error:
            raise DataError(f"the query starts like a JSON row but is not valid JSON: {error}") from None
        return dict(row)
    return None


def _inputs_of_row(model: Model, candidates: list[str], row: dict[str, Any]) -> list[str]:
    """The inputs whose columns are all in the row."""
    columns = {name: model.preparation.modalities[name].columns for name in candidates}
    inputs = [name for name in candidates if all(column in row for column in columns[name])]
    if not inputs:
        expected = ", ".join(sorted({column for names in columns.values() for column in names}))
        raise DataError(
            f"the row has the columns {', '.join(row) or '(none)'}; it needs the columns of an input: {expected}"
        )
    return inputs


def _input_of_cell(model: Model, candidates: list[str], query: str) -> tuple[str, str, Path | None]:
    """The input that encodes a file or a text, its cell, and the root of its path."""
    file = _file(query)
    if file is None and _names_a_file(query):
        raise DataError(
            'there is no such file; to search for this text, give the query as a row: {"column": "text"}', file=query
        )
    if file is None:
        matching = [name for name in candidates if isinstance(model.preparation.modalities[name], Text)]
        kind = "text"
    else:
        kind, matching = _readers(model, candidates, file)
    if not matching:
        missing = "" if file is not None else " (and there is no such file)"
        raise DataError(
            f"the query is {_NOUNS[kind]}{missing}, and the model has no such input that can be compared with the rows "
            f"of the index; {_of(candidates)} can"
        )
    if len(matching) > 1:
        raise DataError(f"the inputs {', '.join(matching)} can encode the query; choose one (--input {matching[0]})")
    return matching[0], query if file is None else file.name, None if file is None else file.parent


def _file(query: str) -> Path | None:
    try:
        path = Path(query)
        return path.resolve() if path.is_file() else None
    except (OSError, ValueError):  # too long for a file name, or with a null byte: a text
        return None


def _names_a_file(query: str) -> bool:
    """Whether the query is a single word with a media file suffix."""
    return len(query.split()) == 1 and any(
        query.lower().endswith(suffix) for one in _SUFFIXES.values() for suffix in one
    )


def _readers(model: Model, candidates: list[str], file: Path) -> tuple[str, list[str]]:
    """The media type of a file and the inputs that encode it, by its suffix or else by its content."""
    try:
        data, _ = read_bytes(file.name, file.parent, model.recipe.data.limits)
    except MediaError as error:
        raise DataError(f"the query cannot be read: {error}", file=str(file)) from None
    file_format = detect_format(data)
    media = {
        name: modality.media
        for name in candidates
        if isinstance(modality := model.preparation.modalities[name], MediaModality)
    }
    kinds = [kind for kind, suffixes in _SUFFIXES.items() if file.suffix.lower() in suffixes]
    kinds += [kind for kind, forms in FORMATS.items() if file_format in forms and kind not in kinds]
    if not kinds:
        raise DataError(
            "the query is a file of an unknown format; give a text, an image, an audio file, ...", file=str(file)
        )
    for kind in kinds:
        matching = [name for name, one in media.items() if one == kind]
        if matching:
            return kind, matching
    return kinds[0], []


def _column(model: Model, name: str) -> str:
    columns = model.preparation.modalities[name].columns
    if len(columns) != 1:
        raise DataError(f"the input {name!r} reads several columns ({', '.join(columns)}); give the query as a row")
    return columns[0]


def _of(names: list[str]) -> str:
    return ("only " if len(names) == 1 else "") + ", ".join(repr(name) for name in names)
