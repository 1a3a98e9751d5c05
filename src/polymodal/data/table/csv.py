"""CSV reading in streaming mode. Column types fit the whole file, and errors give the line."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from polymodal.core.errors import DataError
from polymodal.data.table.columns import check_names

# Cells that mean "no value" in a numeric or boolean column. A text column keeps them.
NULL_WORDS = ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None"]

_BLOCK_BYTES = (1 << 20, 256 << 20)  # the larger one only if a cell does not fit into the smaller one
# A value with a leading zero (007) is a code, not a number.
_WHOLE = r"^-?(0|[1-9]\d*)$"
_NUMBER = r"^[-+]?((0|[1-9]\d*|\d*\.\d+|\d+\.)([eE][-+]?\d+)?|inf|Infinity)$"
_TRUTH = r"^(true|false|True|False|TRUE|FALSE)$"


class CsvFile:
    """A CSV file, read twice: first to infer the narrowest type that fits each column, then to convert.

    Types are int64, float64, bool and text. An unquoted empty cell is null in every column, and `""` is an empty text.
    The words of `NULL_WORDS` are null in numeric and boolean columns. Quotes and line breaks in cells follow RFC 4180.

    Raises:
        DataError: the file is not UTF-8, a line has too few or too many cells, or two columns have the same name. The
            message gives the line.
    """

    def __init__(self, path: Path, delimiter: str) -> None:
        self.path, self.delimiter = path, delimiter
        for self._block in _BLOCK_BYTES:
            try:
                self._header = self._read_header()
                self.schema = self._infer_schema()
                return
            except _LineTooLongError:
                continue
        raise DataError(f"a line is longer than {self._block >> 20} MiB", file=str(path))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The file in batches of `self.schema`."""
        for batch in self._texts():
            columns = [_convert(text, field.type) for text, field in zip(batch.columns, self.schema, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _open(self, names: list[str]) -> pa.csv.CSVStreamingReader:
        return pa.csv.open_csv(
            str(self.path),
            read_options=pa.csv.ReadOptions(block_size=self._block),
            parse_options=pa.csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        )

    def _texts(self) -> Iterator[pa.RecordBatch]:
        """All cells as text, in batches."""
        try:
            last = None
            for batch in self._open(self._header):
                last = batch if batch.num_rows else last
                yield batch
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise self._explain(error) from error
        if last is not None:
            self._check_last_quote(last.column(-1)[-1].as_py())

    def _read_header(self) -> list[str]:
        try:
            names = list(self._open([]).schema.names)
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise self._explain(error) from error
        check_names(names, str(self.path))
        if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
            problem = f"the header has no comma: {names[0]!r}; separate cells by commas (.csv) or tabs (.tsv)"
            raise DataError(problem, file=str(self.path))
        return names

    def _infer_schema(self) -> pa.Schema:
        inferences = [_TypeInference() for _ in self._header]
        for batch in self._texts():
            for inference, text in zip(inferences, batch.columns, strict=True):
                inference.update(text)
        names = [name or f"unnamed_{position}" for position, name in enumerate(self._header, start=1)]
        return pa.schema([(name, inference.arrow_type) for name, inference in zip(names, inferences, strict=True)])

    def _check_last_quote(self, cell: str | None) -> None:
        """Check that the last quote is closed. An unclosed quote puts the rest of the file into the last cell."""
        if cell is None or "\n" not in cell:
            return
        with open(self.path, "rb") as file:
            file.seek(max(0, self.path.stat().st_size - 64))
            if not file.read().rstrip(b"\r\n").endswith(b'"'):
                start = cell.splitlines()[0][:40]
                raise DataError(f"the quoted cell that begins with {start!r} has no closing quote", file=str(self.path))

    def _explain(self, error: Exception) -> Exception:
        """Find the cause of a parse error and its line, by a second, slower pass over the file."""
        if "straddling" in str(error) or "try to increase block size" in str(error):
            return _LineTooLongError()
        if self.path.stat().st_size == 0:
            return DataError("the file is empty", file=str(self.path))
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    problem = f"line {number} is not UTF-8; save the file with UTF-8 encoding"
                    return DataError(problem, file=str(self.path))
        limit = csv.field_size_limit(sys.maxsize)
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as text:
                cells = csv.reader(text, delimiter=self.delimiter)
                width, start = len(next(cells)), cells.line_num + 1
                for row in cells:
                    if row and len(row) != width:
                        problem = f"line {start} has {len(row)} cells, the header has {width}"
                        return DataError(problem, file=str(self.path))
                    start = cells.line_num + 1
        finally:
            csv.field_size_limit(limit)
        return DataError(str(error), file=str(self.path))


class _LineTooLongError(Exception):
    """A line does not fit into one block."""


class _TypeInference:
    """The types that fit all cells of a column seen so far."""

    def __init__(self) -> None:
        self.patterns = {pa.int64(): _WHOLE, pa.float64(): _NUMBER, pa.bool_(): _TRUTH}
        self.seen = False

    def update(self, text: pa.Array) -> None:
        if not self.patterns:
            return
        cells = _without_gaps(text).drop_null()
        if len(cells) == 0:
            return
        self.seen = True
        whole = pa.int64() in self.patterns
        self.patterns = {
            kind: pattern
            for kind, pattern in self.patterns.items()
            if pc.all(pc.match_substring_regex(cells, pattern)).as_py()
        }
        if whole and pa.int64() in self.patterns:
            try:
                cells.cast(pa.int64())
            except pa.ArrowInvalid:  # too large for 64 bits: an identifier, which would lose digits as a float
                self.patterns = {}

    @property
    def arrow_type(self) -> pa.DataType:
        return next(iter(self.patterns), pa.string()) if self.seen else pa.string()


def _without_gaps(text: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.is_in(trimmed, pa.array(NULL_WORDS)), pa.scalar(None, pa.string()), trimmed)


def _convert(text: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return text
    cells = _without_gaps(text)
    return pc.utf8_lower(cells).cast(kind) if pa.types.is_boolean(kind) else cells.cast(kind)
