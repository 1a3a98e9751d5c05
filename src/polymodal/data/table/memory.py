"""Tables in memory: which objects are tables, and what to do with those that are not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from polymodal.core.errors import DataError
from polymodal.data.table import columns as in_memory
from polymodal.data.table.columns import Columns, check_names
from polymodal.data.table.torch_rows import is_torch_data_set, torch_rows

#: Names of the parts of a data set. A mapping of tables with such names is one data set that was already split.
SPLIT_NAMES = frozenset({"train", "training", "validation", "valid", "val", "dev", "test", "eval", "unsupervised"})


def is_table(source: Any, *, row: bool = False) -> bool:
    """Whether an object is a table of its own, and not a column of a table or, with `row`, a row."""
    if isinstance(source, Mapping):
        return not row
    frame = hasattr(source, "columns") and (hasattr(source, "iloc") or hasattr(source, "to_arrow"))
    arrow = isinstance(source, pa.Table | pa.RecordBatch) or (_exports_arrow(source) and not _is_column(source))
    named = isinstance(source, str | os.PathLike)
    return named or frame or arrow or _is_hub_data_set(source) or is_torch_data_set(source)


def check_no_splits(source: Any) -> None:
    """Raises DataError for a mapping of tables, if its names are those of splits of one data set."""
    if not isinstance(source, Mapping) or not source or not all(is_table(one) for one in source.values()):
        return
    names = [str(name) for name in source]
    own_class = type(source).__name__ in ("DatasetDict", "IterableDatasetDict")
    if own_class or (len(names) > 1 and {name.lower() for name in names} <= SPLIT_NAMES):
        raise DataError(
            f"this is a mapping of tables with the splits {', '.join(map(repr, names))}; choose one of its splits, "
            f"such as data[{names[0]!r}]; fit takes train, validation and test together"
        )


def read_source(source: Any) -> Columns:
    """The columns of a frame, a pyarrow table, an object that exports an Arrow stream, a dict of columns or a list of
    dicts.

    Raises:
        DataError: it is no table; the message says how to make one of it.
    """
    check_no_splits(source)
    package = type(source).__module__.partition(".")[0]
    if isinstance(source, pa.Table):
        return in_memory.from_arrow(source)
    if isinstance(source, pa.RecordBatch):
        return in_memory.from_arrow(pa.Table.from_batches([source]))
    if isinstance(source, Mapping):
        return in_memory.from_dict(source)
    if package == "pandas" and hasattr(source, "iloc") and hasattr(source, "columns") and hasattr(source, "dtypes"):
        return in_memory.from_pandas(source)
    if package == "polars" and hasattr(source, "to_arrow") and hasattr(source, "columns"):
        check_names(source.columns)
        return in_memory.from_arrow(source.to_arrow())
    if _is_hub_data_set(source):
        return in_memory.from_arrow(source.with_format("arrow")[:])
    if is_torch_data_set(source):
        return in_memory.from_rows(torch_rows(source))
    if _exports_arrow(source) and not _is_column(source):
        return in_memory.from_arrow(_read_stream(source))
    if isinstance(source, Sequence) and not isinstance(source, str | bytes | bytearray | memoryview | range):
        return in_memory.from_rows(source)
    raise DataError(no_table(source))


def media_folder(source: Any, columns: Columns) -> Path | None:
    """The folder of all files that the records of a `datasets.Dataset` name by absolute paths; None for other sources.

    Its features `Image`, `Audio` and `Video` hold the path of a file where the data set was made of files.
    """
    if not _is_hub_data_set(source):
        return None
    folders: set[str] = set()
    for column in columns.values():
        if isinstance(column, pa.ChunkedArray) and {"bytes", "path"} == _keys(column.type):
            held, paths = pc.struct_field(column, "bytes"), pc.struct_field(column, "path")
            named = [path for path in paths.filter(pc.is_null(held)).to_pylist() if path is not None]
            if not all(map(os.path.isabs, named)):
                return None
            folders |= {os.path.dirname(path) for path in named}
    return Path(os.path.commonpath(folders)) if folders else None


def _keys(kind: pa.DataType) -> set[str]:
    return {one.name for one in kind} if pa.types.is_struct(kind) else set()


def _read_stream(source: Any) -> pa.Table:
    """The rows of an object with the method `__arrow_c_stream__`.

    Raises:
        DataError: the stream has no columns, or it was already read.
    """
    try:
        return pa.RecordBatchReader.from_stream(source).read_all()
    except (pa.ArrowException, OSError, TypeError, ValueError) as error:
        raise DataError(
            f"the Arrow stream of this {type(source).__name__} cannot be read as a table ({error}); a stream can be "
            "read only once: give a pyarrow table, such as reader.read_all()"
        ) from None


def _exports_arrow(source: Any) -> bool:
    return hasattr(type(source), "__arrow_c_stream__")


def _is_column(source: Any) -> bool:
    """Whether an object that exports an Arrow stream is a single column: a series or an array."""
    return isinstance(source, pa.ChunkedArray | pa.Array) or type(source).__name__ == "Series"


def _is_hub_data_set(source: Any) -> bool:
    """A `datasets.Dataset`: its Arrow table alone does not know which of its rows are selected."""
    needed = ("with_format", "column_names", "features", "__getitem__", "__len__")
    return not isinstance(source, Mapping) and all(hasattr(type(source), name) for name in needed)


def no_table(source: Any) -> str:
    """Why an object is no table, and what to give in its place."""
    name = type(source).__name__
    known = (
        "a table must be a file path, a media folder, a pandas or polars frame, a pyarrow table, an object that "
        "exports an Arrow stream, a dict of columns or a list of dicts"
    )
    if type(source).__name__ == "Series":
        one_row = "series.to_dict()" if hasattr(source, "to_dict") else "dict(zip(names, series))"
        return f"a series is no table: give one row as {one_row}, or one column as series.to_frame()"
    if isinstance(source, np.ndarray) or hasattr(source, "numpy"):
        shape = f" of shape {tuple(source.shape)}" if hasattr(source, "shape") else ""
        return (
            f"an array{shape} has no column names: give a dict of columns, such as {{'x0': array[:, 0]}}, or "
            "pandas.DataFrame(array, columns=[...])"
        )
    if isinstance(source, pa.ChunkedArray | pa.Array):
        return f"an Arrow array is one column: give a dict, such as {{'x': array}}, not {name}"
    if isinstance(source, Image.Image):
        return "an image is one cell: give a row, such as {'image': image}"
    if isinstance(source, AbstractSet):
        return f"a {name} has no order: give a list of dicts"
    if isinstance(source, bytes | bytearray | memoryview) or hasattr(source, "read"):
        return f"{known}, not {name}: write it to a file and give its path"
    if hasattr(source, "collect"):
        return f"a {name} is not computed yet: give the result of its method collect()"
    for method in ("to_pandas", "toPandas", "to_arrow_table", "to_arrow", "fetch_arrow_table"):
        if hasattr(source, method):
            return f"a {name} is no table that can be read: give the result of its method {method}()"
    if isinstance(source, Iterator | range) or hasattr(source, "__iter__"):
        return f"{known}, not {name}: give a list of dicts, such as list(rows)"
    return f"{known}, not {name}"
