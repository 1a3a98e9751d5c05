"""Sheets of Excel files, read by openpyxl."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from polymodal.core.errors import DataError, MissingExtraError, did_you_mean
from polymodal.data.table.columns import check_names
from polymodal.data.table.untyped_rows import UntypedRows

SUFFIXES = (".xlsx", ".xlsm")
_BLOCK_ROWS = 4096


class ExcelSheet(UntypedRows):
    """A sheet whose first row with cells is the header. Empty rows are skipped, and empty cells are null.

    sheet: its name; without a name the file must have one sheet

    Numbers that are all whole are integers, and dates are timestamps. Of a formula, the stored value is read.

    Raises:
        DataError: the file is damaged or protected, it has no such sheet or several, two columns have one name, a row
            has a cell beyond the header, or a formula has no stored value. The message gives the row of the sheet.
        MissingExtraError: openpyxl is not installed.
    """

    def __init__(self, path: Path, sheet: str = "") -> None:
        self.path, self.sheet = path, sheet
        self._check_formulas()
        super().__init__()

    def _blocks(self) -> Iterator[list[dict[str, Any]]]:
        with self._opened(values=True) as lines:
            names: list[str] = []
            rows: list[dict[str, Any]] = []
            for number, line in enumerate(lines, start=1):
                cells = _without_empty_end(line)
                if not cells:
                    continue
                if not names:
                    names = self._header(cells)
                    continue
                if len(cells) > len(names):
                    problem = f"row {number} has {len(cells)} cells, the header has {len(names)}"
                    raise DataError(problem, file=str(self.path))
                rows.append(dict(zip_longest(names, cells)))
                if len(rows) == _BLOCK_ROWS:
                    yield rows
                    rows = []
            if names:
                yield rows

    def _header(self, cells: list[Any]) -> list[str]:
        names = [f"unnamed_{at}" if cell is None else str(cell) for at, cell in enumerate(cells, start=1)]
        check_names(names, str(self.path))
        return names

    def _check_formulas(self) -> None:
        """Programs other than spreadsheets store formulas without their values, which would read as empty cells."""
        with self._opened(values=True) as values, self._opened(values=False) as formulas:
            for number, (row, written) in enumerate(zip(values, formulas, strict=False), start=1):
                for value, one in zip(row, written, strict=False):
                    if value is None and isinstance(one, str) and one.startswith("="):
                        problem = f"row {number}: the formula {one[:40]!r} has no stored value; open the file in a "
                        raise DataError(f"{problem}spreadsheet program and save it", file=str(self.path))

    @contextmanager
    def _opened(self, *, values: bool) -> Iterator[Iterator[tuple[Any, ...]]]:
        """The rows of the sheet: the stored values of formulas, or the formulas."""
        try:
            import openpyxl
        except ImportError:
            raise MissingExtraError("openpyxl", "excel", "an Excel file") from None
        with self._errors():
            book = openpyxl.load_workbook(self.path, read_only=True, data_only=values, keep_links=False)
        try:
            yield self._lines(book[self._sheet_of(book.sheetnames)])
        finally:
            book.close()

    def _lines(self, sheet: Any) -> Iterator[tuple[Any, ...]]:
        with self._errors():
            lines = sheet.iter_rows(values_only=True)
        while True:
            with self._errors():
                line = next(lines, None)
            if line is None:
                return
            yield line

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of zip files, of XML, and of openpyxl itself
            problem = f"the file is damaged, protected by a password or not an Excel file ({error})"
            raise DataError(problem, file=str(self.path)) from error

    def _sheet_of(self, names: list[str]) -> str:
        if self.sheet in names:
            return self.sheet
        if self.sheet:
            problem = f"the file has no sheet {self.sheet!r}; {did_you_mean(self.sheet, names)}"
            raise DataError(problem, file=str(self.path))
        if len(names) > 1:
            listed = ", ".join(map(repr, names))
            problem = f"the file has the sheets {listed}: name one of them, as in {self.path.name}#{names[0]}"
            raise DataError(problem, file=str(self.path))
        return names[0]


def _without_empty_end(line: tuple[Any, ...]) -> list[Any]:
    cells = list(line)
    while cells and cells[-1] is None:
        cells.pop()
    return cells
