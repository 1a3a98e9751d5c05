"""Columns of in-memory sources: frames, dicts, rows and media folders as Arrow arrays, or as lists if cells are
objects."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from polymodal.core.errors import DataError
from polymodal.data.media.formats import AUDIO_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES
from polymodal.data.table.cell_kinds import plain_text
from polymodal.data.table.nested import flat_row, null_parents

Columns = dict[str, pa.ChunkedArray | list[Any]]

_FOLDERS = {"image": IMAGE_SUFFIXES, "audio": AUDIO_SUFFIXES, "video": VIDEO_SUFFIXES}
_LAYOUT_HINT = "the layout is class/file.png (or .wav, .mp4, ...)"


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The Arrow type in which cells of type `kind` are returned: one type for text, one for bytes, one for lists.

    Dictionary-encoded, large and view types become their plain form, decimals become float64.
    """
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind) or types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_decimal(kind):
        return pa.float64()
    if types.is_float16(kind):
        return pa.float32()
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, plain_type(field.type)) for field in kind])
    return kind


def to_plain_type(array: pa.Array) -> pa.Array:
    """`array` cast to the `plain_type` of its type."""
    if isinstance(array, pa.ExtensionArray):
        return to_plain_type(array.storage)
    if isinstance(array, pa.DictionaryArray):
        return to_plain_type(array.dictionary_decode())
    wanted = plain_type(array.type)
    return array if array.type == wanted else array.cast(wanted)


def check_names(names: Sequence[str], file: str | None = None) -> None:
    """Check that column names are unique and valid texts.

    Raises:
        DataError: two columns have the same name, or a name holds a NUL character or half a surrogate pair.
    """
    twice = [repr(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"several columns have the name {', '.join(twice)}; rename them", file=file)
    for name in names:
        if "\0" in name or any("\ud800" <= sign <= "\udfff" for sign in name):
            raise DataError(f"the column name {name!r} is no valid text; rename the column", file=file)


def from_arrow(table: pa.Table) -> Columns:
    check_names(table.column_names)
    return dict(zip(table.column_names, table.columns, strict=True))


def from_pandas(frame: Any) -> Columns:
    names = [str(name) for name in frame.columns]
    check_names(names)
    columns: Columns = {}
    for position, name in enumerate(names):
        series = frame.iloc[:, position]
        if str(series.dtype).startswith("period["):  # Arrow stores a period as a number
            series = series.dt.to_timestamp()
        columns[name] = _column(name, series.tolist()) if series.dtype == object else _array(name, series)
    return columns


def from_dict(source: Mapping[str, Any]) -> Columns:
    check_names([str(name) for name in source])
    columns = {str(name): _column(str(name), values) for name, values in source.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise DataError(f"columns differ in length: {listed}")
    return columns


def from_rows(rows: Sequence[Any]) -> Columns:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            example = "such as {'length': 1.5, 'maker': 'east'}"
            raise DataError(f"a row must be a dict, {example}, not {type(row).__name__}", row=number)
    flat = [flat_row(row, f"row {number}") for number, row in enumerate(rows)]
    names = list(dict.fromkeys(name for row in flat for name in row))
    cells = {name: [row.get(name) for row in flat] for name in names}
    empty = [name for name, column in cells.items() if all(cell is None for cell in column)]
    dropped = null_parents(empty, names) if empty else set()
    return from_dict({name: column for name, column in cells.items() if name not in dropped})


def from_media_folder(folder: Path) -> Columns:
    """Columns `image`, `audio` or `video` (paths relative to `folder`, which has one kind of media) and `label` (the
    name of the class folder)."""
    paths: list[str] = []
    labels: list[str] = []
    kinds: dict[str, str] = {}  # each kind of media in the folder, and its first file
    stray = ""
    for entry in _visible(folder):
        if not entry.is_dir():
            stray = stray or (entry.name if media_kind(entry.name) else "")
            continue
        for file in _visible(Path(entry.path)):
            path = f"{entry.name}/{file.name}"
            if file.is_dir():
                raise DataError(f"folder {path!r} is nested too deep; {_LAYOUT_HINT}", file=str(folder))
            kind = media_kind(file.name)
            if kind is None:
                raise DataError(
                    f"{path!r} is not a supported image, audio or video file ({_known()})", file=str(folder)
                )
            kinds.setdefault(kind, path)
            paths.append(path)
            labels.append(entry.name)
    if stray and paths:
        raise DataError(f"{stray!r} is outside the class folders; move it into one of them", file=str(folder))
    if stray:
        raise DataError(
            f"{stray!r} is not in a class folder; {_LAYOUT_HINT} (or use a table with a column of paths)",
            file=str(folder),
        )
    if not paths:
        raise DataError(f"the folder has no images, audio or videos in class folders; {_LAYOUT_HINT}", file=str(folder))
    if len(kinds) > 1:
        met = ", ".join(f"{kind} ({path!r})" for kind, path in kinds.items())
        raise DataError(
            f"the folder has several kinds of media: {met}; use a table with a column of paths for each",
            file=str(folder),
        )
    (kind,) = kinds
    return {kind: pa.chunked_array([pa.array(paths)]), "label": pa.chunked_array([pa.array(labels)])}


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def media_kind(name: str) -> str | None:
    """The kind of media that the suffix of a file stands for."""
    suffix = os.path.splitext(name)[1].lower()
    return next((kind for kind, suffixes in _FOLDERS.items() if suffix in suffixes), None)


def _known() -> str:
    return "; ".join(f"{kind}: {', '.join(sorted(suffixes))}" for kind, suffixes in _FOLDERS.items())


def _column(name: str, values: Any) -> pa.ChunkedArray | list[Any]:
    """One column: an Arrow array, or a list if a cell is a PIL image or a numpy array."""
    if isinstance(values, pa.ChunkedArray):
        return values
    if hasattr(values, "detach") and hasattr(values, "numpy"):  # a tensor
        values = values.detach().cpu().numpy()
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return list(values)
    if isinstance(values, Set):
        raise DataError(f"a {type(values).__name__} has no order: give a list of cells", column=name)
    if isinstance(values, str | bytes | bytearray | memoryview | Mapping) or not _has_length(values):
        raise DataError(f"expected a list of cells, not {type(values).__name__}", column=name)
    if isinstance(values, list | tuple):
        if any(isinstance(value, Image.Image | np.ndarray) for value in values):
            return [None if isinstance(value, float) and value != value else value for value in values]
        values = [_plain_cell(value) if isinstance(value, _OWN_FORM) else value for value in values]
    return _array(name, values)


def _array(name: str, values: Any) -> pa.ChunkedArray:
    """An Arrow column. A list of cells of several scalar types becomes texts, as in a CSV or JSON lines file."""
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        if not isinstance(values, list):  # an array or series of a type that Arrow does not know
            return _array(name, [_plain_cell(value) for value in _cells(name, values)])
        texts = _scalar_texts(values)
        if texts is None:
            kinds = sorted({type(value).__name__ for value in values if value is not None})
            problem = f"the cells of a column must have one type; these have {', '.join(kinds)}"
            if len(kinds) == 1:
                problem = f"cells of the type {kinds[0]} cannot be read; convert them to numbers, texts or lists"
            raise DataError(problem, column=name) from error
        try:
            array = pa.array(texts, pa.string())
        except UnicodeEncodeError:
            row = next(
                at for at, text in enumerate(texts) if text and any("\ud800" <= sign <= "\udfff" for sign in text)
            )
            problem = "the text has half a surrogate pair, which is not valid Unicode"
            raise DataError(problem, row=row, column=name) from None
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


#: Types whose cells Arrow reads in another way, or not at all.
_OWN_FORM = (PurePath, np.datetime64, np.timedelta64)


def _plain_cell(value: Any) -> Any:
    """A cell in a form that Arrow reads: the text of a path; None for a time that is none."""
    if isinstance(value, PurePath):
        return str(value)
    return None if isinstance(value, np.datetime64 | np.timedelta64) and np.isnat(value) else value


def _has_length(values: Any) -> bool:
    try:
        len(values)
    except TypeError:  # no length, or an array without dimensions
        return False
    return True


def _cells(name: str, values: Any) -> list[Any]:
    """The cells of an object that has a length."""
    try:
        return list(values)
    except TypeError as error:
        raise DataError(f"expected a list of cells, not {type(values).__name__}", column=name) from error


def _scalar_texts(values: list[Any]) -> list[str | None] | None:
    """The texts of scalar cells, None where a cell is null; None if a cell is not a scalar."""
    texts: list[str | None] = []
    for value in values:
        scalar = value.item() if isinstance(value, np.generic) else value
        null = scalar is None or (isinstance(scalar, float) and scalar != scalar)
        text = None if null else plain_text(scalar)
        if text is None and not null:
            return None
        texts.append(text)
    return texts
