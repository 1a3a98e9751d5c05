"""CSV reading in streaming mode. Column types fit the whole file, and errors give the line."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from polymodal.core.errors import DataError
from polymodal.data.table.cell_kinds import convert_texts, kind_type
from polymodal.data.table.columns import check_names
from polymodal.data.table.csv_form import separator_name
from polymodal.data.table.encodings import not_utf8, utf16_problem
from polymodal.data.table.kind_inference import KindInference

#: Metadata of a field: the kind of a column of texts, and the column of which a field holds the texts.
KIND_KEY, RAW_KEY = b"polymodal.kind", b"polymodal.texts_of"

_BLOCK_BYTES = (1 << 20, 256 << 20)  # the larger one only if a cell does not fit into the smaller one


class CsvFile:
    """A CSV file, read twice: first to infer the narrowest kind that fits each column, then to convert.

    Kinds are integer, number, boolean and text. An unquoted empty cell is null in every column, and `""` is an empty
    text. The words of `cell_kinds.NULL_WORDS` are null in numeric and boolean columns. Quotes and line breaks in cells
    follow RFC 4180. In a file of one column, an empty line is an empty cell.

    delimiter: the character between cells

    A numeric or boolean column comes in two forms: its values, and its cells as they are written (a field that names
    the column in its metadata). A later reader may need the texts: `1.10` is a version where the model learned texts.
    A column with marks for broken values (`?`) comes as texts, and the metadata of the field name its kind.

    Raises:
        DataError: the file is not UTF-8, a line has too few or too many cells, or two columns have the same name. The
            message gives the line.
    """

    def __init__(self, path: Path, delimiter: str = ",") -> None:
        self.path = path
        self.delimiter = delimiter
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
            arrays = []
            for texts, inference in zip(batch.columns, self._inferences, strict=True):
                if inference.kind == "text" or inference.has_marks:
                    arrays.append(texts)
                else:
                    arrays += [convert_texts(texts, inference.kind), texts]
            yield pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _open(self, names: list[str]) -> pa.csv.CSVStreamingReader:
        return pa.csv.open_csv(
            str(self.path),
            read_options=pa.csv.ReadOptions(block_size=self._block),
            parse_options=pa.csv.ParseOptions(
                delimiter=self.delimiter, newlines_in_values=True, ignore_empty_lines=len(names) != 1
            ),
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
        return names

    def _infer_schema(self) -> pa.Schema:
        self._inferences = [KindInference() for _ in self._header]
        for batch in self._texts():
            for inference, texts in zip(self._inferences, batch.columns, strict=True):
                inference.update(texts)
        fields = []
        for position, (header, inference) in enumerate(zip(self._header, self._inferences, strict=True), start=1):
            name = header or f"unnamed_{position}"
            if inference.kind == "text":
                fields.append(pa.field(name, pa.string()))
            elif inference.has_marks:
                fields.append(pa.field(name, pa.string(), metadata={KIND_KEY: inference.kind}))
            else:
                raw = pa.field(f"{name}\0raw", pa.string(), metadata={RAW_KEY: name})
                fields += [pa.field(name, kind_type(inference.kind)), raw]
        return pa.schema(fields)

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
        encoding = utf16_problem(self.path)
        if encoding:
            return DataError(encoding, file=str(self.path))
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    return DataError(not_utf8(self.path, line, number), file=str(self.path))
        limit = csv.field_size_limit(sys.maxsize)
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as text:
                cells = csv.reader(text, delimiter=self.delimiter)
                width, start = len(next(cells)), cells.line_num + 1
                for row in cells:
                    if row and len(row) != width:
                        problem = f"line {start} has {len(row)} cells, the header has {width}"
                        return DataError(f"{problem}{self._separated()}", file=str(self.path))
                    start = cells.line_num + 1
        finally:
            csv.field_size_limit(limit)
        return DataError(str(error), file=str(self.path))

    def _separated(self) -> str:
        """How the cells are separated, if not as the suffix of the file says."""
        usual = "\t" if self.path.suffix.lower() == ".tsv" else ","
        return "" if self.delimiter == usual else f" (cells separated by {separator_name(self.delimiter)})"


class _LineTooLongError(Exception):
    """A line does not fit into one block."""
