"""Streaming CSV: types are decided over the whole file, and errors name the line."""

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

# Cells that mean "no value" in a column of numbers or truth values. In a text column they stay as they are.
GAPS = ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None"]

_BLOCK_BYTES = (1 << 20, 256 << 20)  # the larger one only when a cell does not fit into the smaller
# A leading zero (007) marks a code, not a number.
_WHOLE = r"^-?(0|[1-9]\d*)$"
_NUMBER = r"^[-+]?((0|[1-9]\d*|\d*\.\d+|\d+\.)([eE][-+]?\d+)?|inf|Infinity)$"
_TRUTH = r"^(true|false|True|False|TRUE|FALSE)$"


class CsvFile:
    """A CSV file read twice: once to find the narrowest type that fits a whole column, once to convert.

    Types are int64, float64, bool and text. An empty cell without quotes is a gap in every column; `""` is an
    empty text; the words of `GAPS` are gaps in columns of numbers. Quotes and line breaks in cells follow RFC
    4180.

    Raises:
        DataError: not UTF-8, a line with too few or too many cells, two columns of one name; it names the
            line.
    """

    def __init__(self, path: Path, delimiter: str) -> None:
        self.path, self.delimiter = path, delimiter
        for self._block in _BLOCK_BYTES:
            try:
                self._header = self._read_header()
                self.schema = self._decide()
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
        """Every cell as text."""
        try:
            last = None
            for batch in self._open(self._header):
                last = batch if batch.num_rows else last
                yield batch
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise self._explained(error) from error
        if last is not None:
            self._check_last_quote(last.column(-1)[-1].as_py())

    def _read_header(self) -> list[str]:
        try:
            names = list(self._open([]).schema.names)
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise self._explained(error) from error
        check_names(names, str(self.path))
        if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
            problem = f"the header has no comma: {names[0]!r}; cells are separated by commas (.csv) or tabs (.tsv)"
            raise DataError(problem, file=str(self.path))
        return names

    def _decide(self) -> pa.Schema:
        guesses = [_Guess() for _ in self._header]
        for batch in self._texts():
            for guess, text in zip(guesses, batch.columns, strict=True):
                guess.look(text)
        names = [name or f"unnamed_{place}" for place, name in enumerate(self._header, start=1)]
        return pa.schema([(name, guess.kind) for name, guess in zip(names, guesses, strict=True)])

    def _check_last_quote(self, cell: str | None) -> None:
        """A quote that is never closed swallows the rest of the file into the last cell."""
        if cell is None or "\n" not in cell:
            return
        with open(self.path, "rb") as file:
            file.seek(max(0, self.path.stat().st_size - 64))
            if not file.read().rstrip(b"\r\n").endswith(b'"'):
                start = cell.splitlines()[0][:40]
                raise DataError(f"a quoted cell that begins with {start!r} is never closed", file=str(self.path))

    def _explained(self, error: Exception) -> Exception:
        """What is wrong with the file and on which line; found by a second, slow reading."""
        if "straddling" in str(error) or "try to increase block size" in str(error):
            return _LineTooLongError()
        if self.path.stat().st_size == 0:
            return DataError("the file is empty", file=str(self.path))
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    problem = f"line {number} is not UTF-8; save the file in the encoding UTF-8"
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


class _Guess:
    """What a column can still be after the cells seen so far."""

    def __init__(self) -> None:
        self.patterns = {pa.int64(): _WHOLE, pa.float64(): _NUMBER, pa.bool_(): _TRUTH}
        self.seen = False

    def look(self, text: pa.Array) -> None:
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
            except pa.ArrowInvalid:  # too long for 64 bits: a code; as a float it would lose digits
                self.patterns = {}

    @property
    def kind(self) -> pa.DataType:
        return next(iter(self.patterns), pa.string()) if self.seen else pa.string()


def _without_gaps(text: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.is_in(trimmed, pa.array(GAPS)), pa.scalar(None, pa.string()), trimmed)


def _convert(text: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return text
    cells = _without_gaps(text)
    return pc.utf8_lower(cells).cast(kind) if pa.types.is_boolean(kind) else cells.cast(kind)
