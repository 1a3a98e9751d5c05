"""A query as a person gives it: a text, a file, or a row; and which input of the model reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.applications.search.embedding_source import check_input, comparable_inputs
from polymodal.applications.search.manifest import EmbeddingSource
from polymodal.core.errors import DataError
from polymodal.data.media.formats import (
    AUDIO_SUFFIXES,
    FORMATS,
    IMAGE_SUFFIXES,
    SERIES_SUFFIXES,
    VIDEO_SUFFIXES,
    format_of,
)
from polymodal.data.media.source import MediaError, read_bytes
from polymodal.modalities.media import MediaModality
from polymodal.modalities.text import Text
from polymodal.model.model import Model

_SUFFIXES = {"image": IMAGE_SUFFIXES, "audio": AUDIO_SUFFIXES, "video": VIDEO_SUFFIXES, "series": SERIES_SUFFIXES}
_NOUNS = {"image": "an image", "audio": "a sound", "video": "a clip", "series": "a series", "text": "a text"}


def embed_query(
    model: Model, source: EmbeddingSource, query: Any, *, input: str | None = None, root: Path | str | None = None
) -> np.ndarray:
    """The vector `[1, size]` of a query, to be compared with the rows of an index.

    query: the path of an existing file, which goes to the input of its kind; a row as a dict or JSON text, which goes
        to the input whose columns it has, or to several, as a whole; any other text goes to the text input
    input: the input that reads the query, where several could
    root: the folder that paths in a row start from

    Raises:
        DataError: no input can read the query, several can, or it cannot be decoded.
        RecipeError: the model has no such input.
    """
    check_input(model, input)
    names = comparable_inputs(model, source.input)
    whole = source.input is None and not names
    known = list(model.recipe.inputs) if whole else names
    if input is not None and input not in known:
        raise DataError(
            f"what the input {input!r} reads cannot be compared with the rows of the index; {_of(known)} can"
        )
    known = [input] if input is not None else known
    row = _row(query)
    if row is not None:
        chosen = _inputs_of_row(model, known, row)
    else:
        name, cell, root = _input_of_cell(model, known, str(query))
        row, chosen = {_column(model, name): cell}, [name]
    if whole or len(chosen) > 1:
        row = {**dict.fromkeys(model.preparation.input_columns), **row}
        chosen = [""]
    found = model.embed([row], input=chosen[0] or None, size=source.size, root=root, strict=True)
    if np.isnan(found).any():
        raise DataError("the query is empty: the input that reads it finds nothing in it")
    return found


def _row(query: Any) -> dict[str, Any] | None:
    """The query as a row, None if it is none."""
    if isinstance(query, dict):
        return query
    if isinstance(query, str) and query.lstrip().startswith("{"):
        try:
            row = json.loads(query)
        except ValueError as error:
            raise DataError(f"the query begins like a row of JSON and is none: {error}") from None
        return dict(row)
    return None


def _inputs_of_row(model: Model, known: list[str], row: dict[str, Any]) -> list[str]:
    """The inputs all of whose columns the row has."""
    columns = {name: model.preparation.modalities[name].columns for name in known}
    chosen = [name for name in known if all(column in row for column in columns[name])]
    if not chosen:
        wanted = ", ".join(sorted({column for one in columns.values() for column in one}))
        raise DataError(f"the row has the columns {', '.join(row) or '(none)'}; it needs those of an input: {wanted}")
    return chosen


def _input_of_cell(model: Model, known: list[str], query: str) -> tuple[str, str, Path | None]:
    """The input that reads a file or a text, the cell for it, and the root of its path."""
    file = _file(query)
    if file is None and _names_a_file(query):
        raise DataError(
            'there is no file of this name; to look for these words, ask by a row: {"column": "text"}', file=query
        )
    if file is None:
        fitting = [name for name in known if isinstance(model.preparation.modalities[name], Text)]
        kind = "text"
    else:
        kind, fitting = _readers(model, known, file)
    if not fitting:
        missing = "" if file is not None else " (there is no file of this name either)"
        raise DataError(
            f"the query is {_NOUNS[kind]}{missing}, and the model has no input for it that can be compared with the "
            f"rows of the index; {_of(known)} can"
        )
    if len(fitting) > 1:
        raise DataError(f"the inputs {', '.join(fitting)} can read the query; choose one (--input {fitting[0]})")
    return fitting[0], query if file is None else file.name, None if file is None else file.parent


def _file(query: str) -> Path | None:
    try:
        path = Path(query)
        return path.resolve() if path.is_file() else None
    except (OSError, ValueError):  # too long for a name, or with a zero byte: a text
        return None


def _names_a_file(query: str) -> bool:
    """Whether one word ends as media files do."""
    return len(query.split()) == 1 and any(query.lower().endswith(suffix) for one in _SUFFIXES.values() for suffix in one)


def _readers(model: Model, known: list[str], file: Path) -> tuple[str, list[str]]:
    """The kind of a file, and the inputs that read it: by its suffix, or else by its first bytes."""
    try:
        data, _ = read_bytes(file.name, file.parent, model.recipe.data.limits)
    except MediaError as error:
        raise DataError(f"the query cannot be read: {error}", file=str(file)) from None
    form = format_of(data)
    media = {
        name: modality.media
        for name in known
        if isinstance(modality := model.preparation.modalities[name], MediaModality)
    }
    kinds = [kind for kind, suffixes in _SUFFIXES.items() if file.suffix.lower() in suffixes]
    kinds += [kind for kind, forms in FORMATS.items() if form in forms and kind not in kinds]
    if not kinds:
        raise DataError("the query is a file of no known format; give a text, an image, a sound, ...", file=str(file))
    for kind in kinds:
        fitting = [name for name, one in media.items() if one == kind]
        if fitting:
            return kind, fitting
    return kinds[0], []


def _column(model: Model, name: str) -> str:
    columns = model.preparation.modalities[name].columns
    if len(columns) != 1:
        raise DataError(f"the input {name!r} reads several columns ({', '.join(columns)}); give the query as a row")
    return columns[0]


def _of(names: list[str]) -> str:
    return ("only " if len(names) == 1 else "") + ", ".join(repr(name) for name in names)
